"""Holders of locks on files, found without taking a lock: flock(2) and fcntl(2)."""

from __future__ import annotations

import contextlib

from nqrust.host.errors import HostError
from nqrust.host.port import Host

ASKING = "asking"
"""Key in the installer's lock file while its holder waits for an answer, and changes nothing."""


def holders(host: Host, path: str) -> list[int]:
    """Return PIDs that hold a lock on `path`, and have it open."""
    found = host.stat(path)
    if found is None:
        return []
    try:
        return [pid for pid in parse(host.read_text("/proc/locks"), found.inode) if _has_open(host, pid, path)]
    except HostError:
        return []


def parse(locks: str, inode: int) -> list[int]:
    """Return PIDs that hold a lock on an inode, from proc_locks(5): `1: POSIX  ADVISORY  WRITE 812 08:01:131 0 EOF`."""
    found = []
    for line in locks.splitlines():
        fields = line.split()
        if len(fields) >= 6 and fields[1] != "->" and fields[5].rpartition(":")[2] == str(inode) and fields[4].isdigit():
            found.append(int(fields[4]))
    return found


def _has_open(host: Host, pid: int, path: str) -> bool:
    """Return whether the process has this file open: inode numbers repeat between file systems."""
    try:
        descriptors = host.listdir(f"/proc/{pid}/fd")
    except HostError:
        return False
    for descriptor in descriptors:
        with contextlib.suppress(HostError):  # it may be closed meanwhile
            if host.readlink(f"/proc/{pid}/fd/{descriptor}") == path:
                return True
    return False
