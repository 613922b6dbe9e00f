"""Folders of the cache."""

from __future__ import annotations

import posixpath

from nqrust.host.port import Host


def ensure_private(host: Host, path: str, mode: int = 0o700) -> None:
    """Create `path` and its missing parents, for root alone. Leaves existing folders unchanged. Raises PathError."""
    if host.stat(path) is not None:
        return
    parent = posixpath.dirname(path)
    if host.stat(parent) is None:
        ensure_private(host, parent, mode)
    host.mkdir(path, mode=mode)
