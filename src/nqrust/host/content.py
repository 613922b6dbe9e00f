"""The content of a folder on which an administrator may have mounted a file system."""

from __future__ import annotations

from nqrust.host.port import Host

LOST_AND_FOUND = "lost+found"
"""The folder that mke2fs(8) makes at the top of each ext file system, for e2fsck(8). No VM, volume or image has this name."""


def content(host: Host, folder: str) -> list[str]:
    """Return the names in `folder` in order, without `lost+found`. Raises PathMissing, HostError."""
    return [name for name in host.listdir(folder) if name != LOST_AND_FOUND]
