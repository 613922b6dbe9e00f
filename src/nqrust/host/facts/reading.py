"""Reading small files that may be missing."""

from __future__ import annotations

from nqrust.host.errors import HostError
from nqrust.host.port import Host


def text(host: Host, path: str, limit: int | None = None) -> str:
    """Return the content, or "" if the file is missing or unreadable: facts are gathered on every kind of machine.

    `limit`: bytes that are read of it."""
    try:
        return host.read_bytes(path, limit).decode("utf-8", "replace")
    except HostError:
        return ""


def names(host: Host, path: str) -> list[str]:
    """Return names in a directory; none if it is missing."""
    try:
        return host.listdir(path)
    except HostError:
        return []
