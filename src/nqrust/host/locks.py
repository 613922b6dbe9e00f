"""Holders of locks on files, found without taking a lock: flock(2) and fcntl(2)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection

from nqrust.host import mounts
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
        devices = _devices(host, path, found.device)
        return [pid for pid in parse(host.read_text("/proc/locks"), found.inode, devices) if _has_open(host, pid, path)]
    except HostError:
        return []


def parse(locks: str, inode: int, devices: Collection[tuple[int, int]]) -> list[int]:
    """Return PIDs that hold a lock on an inode of one of `devices`, from proc_locks(5):
    `1: POSIX  ADVISORY  WRITE 812 08:01:131 0 EOF`. Its devices are hexadecimal."""
    found = []
    for line in locks.splitlines():
        fields = line.split()
        if len(fields) < 6 or fields[1] == "->" or not fields[4].isdigit():
            continue
        with contextlib.suppress(ValueError):
            major, minor, number = fields[5].split(":")
            if int(number) == inode and (int(major, 16), int(minor, 16)) in devices:
                found.append(int(fields[4]))
    return found


def _devices(host: Host, path: str, device: int) -> set[tuple[int, int]]:
    """Return the device of the file, and that of its mount: the kernel lists locks with the latter, and Btrfs gives its files
    another one. Inode numbers repeat between file systems, and anybody can have a file of the same path in a mount namespace."""
    found = {(os.major(device), os.minor(device))}
    mount = mounts.holding(mounts.parse_mountinfo(host.read_text(mounts.MOUNTINFO)), path)
    if mount is not None:
        major, _, minor = mount.device.partition(":")
        found.add((int(major), int(minor)))
    return found


def _has_open(host: Host, pid: int, path: str) -> bool:
    """Return whether the process has this file open. No look at the file itself: one of a user's file system may never return."""
    try:
        descriptors = host.listdir(f"/proc/{pid}/fd")
    except HostError:
        return False
    for descriptor in descriptors:
        with contextlib.suppress(HostError):  # it may be closed meanwhile
            if host.readlink(f"/proc/{pid}/fd/{descriptor}") == path:
                return True
    return False
