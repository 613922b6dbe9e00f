"""Reading small files that may not be there."""

from __future__ import annotations

from nqrust.host.errors import HostError
from nqrust.host.port import Host


def text(host: Host, path: str) -> str:
    """Content, or "" when the file is missing or may not be read: facts are gathered on machines of every kind."""
    try:
        return host.read_text(path)
    except HostError:
        return ""


def names(host: Host, path: str) -> list[str]:
    """Names in a directory; none when it is missing."""
    try:
        return host.listdir(path)
    except HostError:
        return []
