"""Reading small files that may be missing."""

from __future__ import annotations

from nqrust.host.errors import HostError
from nqrust.host.port import Host


def text(host: Host, path: str) -> str:
    """Return the content, or "" if the file is missing or unreadable: facts are gathered on every kind of machine."""
    try:
        return host.read_text(path)
    except HostError:
        return ""


def names(host: Host, path: str) -> list[str]:
    """Return names in a directory; none if it is missing."""
    try:
        return host.listdir(path)
    except HostError:
        return []
