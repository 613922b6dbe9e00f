"""Mount points from /proc/self/mountinfo (proc(5)). Pure: the caller reads the file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MOUNTINFO = "/proc/self/mountinfo"
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    mount_id: int
    device: str  # "major:minor"
    root: str  # the mounted part of that file system; not "/" for a bind mount
    mount_point: str
    fstype: str
    source: str
    options: tuple[str, ...] = ()


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Return mounts in kernel order: a later one hides an earlier one at the same place. Lines that do not parse are skipped."""
    mounts = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if not separator or len(fields) < 6 or len(tail) < 2 or not fields[0].isdecimal():
            continue
        mounts.append(
            Mount(
                int(fields[0]),
                fields[2],
                _unescape(fields[3]),
                _unescape(fields[4]),
                tail[0],
                _unescape(tail[1]),
                tuple(fields[5].split(",")),
            )
        )
    return tuple(mounts)


def holding(mounts: Iterable[Mount], path: str) -> Mount | None:
    """The mount that holds a canonical absolute path."""
    best: Mount | None = None
    for mount in mounts:
        if is_at_or_below(path, mount.mount_point) and (best is None or len(mount.mount_point) >= len(best.mount_point)):
            best = mount
    return best


def at_or_below(mounts: Iterable[Mount], path: str) -> list[Mount]:
    """Mounts at a canonical path or anywhere below it."""
    return [mount for mount in mounts if is_at_or_below(mount.mount_point, path)]


def is_at_or_below(path: str, ancestor: str) -> bool:
    return ancestor == "/" or path == ancestor or path.startswith(ancestor + "/")


FOREIGN = ("nfs", "cifs", "smb", "fuse", "autofs", "proc", "sysfs", "cgroup", "nsfs", "9p", "ceph")
"""Prefixes of file system types that are remote or not on a disk."""


def points_of_others(mounts: Iterable[Mount]) -> frozenset[str]:
    """Return mount points of foreign file systems, which must not be walked."""
    return frozenset(mount.mount_point for mount in mounts if mount.fstype.startswith(FOREIGN))


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), text) if "\\" in text else text
