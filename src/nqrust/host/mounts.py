"""Mount points from /proc/self/mountinfo (proc(5)) and fstab(5). Pure: the caller reads the files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MOUNTINFO = "/proc/self/mountinfo"
FSTAB = "/etc/fstab"
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


def unmounted(fstab: str, mountinfo: str, path: str) -> bool:
    """Return whether fstab(5) has a file system at or above an absolute path that is not mounted now."""
    rows = (line.split() for line in fstab.splitlines())
    points = {_unescape(row[1]).rstrip("/") for row in rows if len(row) > 1 and not row[0].startswith("#")} - {""}
    mounted = {mount.mount_point for mount in parse_mountinfo(mountinfo)}
    return any(is_at_or_below(path, point) for point in points - mounted)


FOREIGN = ("nfs", "cifs", "smb", "fuse", "autofs", "proc", "sysfs", "cgroup", "nsfs", "9p", "ceph")
"""Prefixes of file system types that are remote or not on a disk."""


def points_of_others(mounts: Iterable[Mount]) -> frozenset[str]:
    """Return mount points of foreign file systems, which must not be walked."""
    return frozenset(mount.mount_point for mount in mounts if mount.fstype.startswith(FOREIGN))


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), text) if "\\" in text else text
