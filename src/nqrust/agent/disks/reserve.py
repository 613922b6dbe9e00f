"""Room on a host's disk that copies and downloads leave free: on a full disk, VMs stop or lose what they write."""

from __future__ import annotations

import errno

from nqrust.host.errors import NoSpace
from nqrust.host.port import DiskUsage, Host

RESERVE = 512 << 20
"""Bytes that must be free before VMs continue, so that they do not fill the disk again at once."""

PART = 20
"""A twentieth of a small file system is enough."""


def reserve(usage: DiskUsage) -> int:
    return min(RESERVE, usage.total // PART)


def require(host: Host, folder: str, size: int, what: str, besides: int = 0) -> None:
    """Raise NoSpace if `what`, of `size` bytes, does not fit into the folder. `besides`: bytes that others will take there."""
    usage = host.disk_usage(folder)
    keep = reserve(usage)
    if usage.available - size - besides < keep:
        raise NoSpace(folder, f"{what} of {size >> 20} MiB does not fit, and {keep >> 20} MiB must stay free", errno.ENOSPC)
