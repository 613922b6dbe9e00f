"""What a host has written since it was unpacked, read from its overlay's upper layer (kernel: filesystems/overlayfs)."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

Mark = dict[str, tuple[int, int, int]]
"""State of an upper layer at one moment: path -> (inode, ctime in ns, size)."""


@dataclass(frozen=True, order=True)
class Change:
    """`path` as seen in the host. `what`: added, modified or removed (whiteout); `is_directory` as it says."""

    path: str
    what: str
    is_directory: bool = False


def mark(upper: Path) -> Mark:
    """Remember the upper layer now, to ask later what changed since. ctime cannot be set back by the one who writes."""
    found: Mark = {}
    for path, status in _walk(upper):
        found["/" + str(path.relative_to(upper))] = (status.st_ino, status.st_ctime_ns, status.st_size)
    return found


def changes(upper: Path, lowers: list[Path], since: Mark | None = None) -> list[Change]:
    """Sorted changes in `upper` against the layers below it (newest first), or only those after `since`.

    A directory that is there only to hold a change below it is not listed.
    """
    before = since or {}
    found: list[Change] = []
    present: set[str] = set()
    for path, status in _walk(upper):
        name = "/" + str(path.relative_to(upper))
        present.add(name)
        state = (status.st_ino, status.st_ctime_ns, status.st_size)
        if before.get(name) == state:
            continue
        below = _below(lowers, name)
        if _is_whiteout(status):
            if below is not None:
                found.append(Change(name, "removed", stat.S_ISDIR(below.st_mode)))
        elif stat.S_ISDIR(status.st_mode):
            if since is not None and name in before:
                continue  # its entries changed, and those are listed themselves
            if below is None:
                found.append(Change(name, "added", True))
            elif (below.st_mode, below.st_uid, below.st_gid) != (status.st_mode, status.st_uid, status.st_gid):
                found.append(Change(name, "modified", True))
        elif since is not None:
            found.append(Change(name, "modified" if name in before or below is not None else "added"))
        else:
            found.append(Change(name, "added" if below is None else "modified"))
    if since is not None:
        found += [Change(name, "removed") for name in before if name not in present]
    return sorted(found)


def _walk(upper: Path) -> list[tuple[Path, os.stat_result]]:
    found: list[tuple[Path, os.stat_result]] = []
    pending = [upper]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except FileNotFoundError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            found.append((Path(entry.path), status))
            if stat.S_ISDIR(status.st_mode):
                pending.append(Path(entry.path))
    return found


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _below(lowers: list[Path], name: str) -> os.stat_result | None:
    for lower in lowers:
        try:
            status = os.lstat(lower / name.lstrip("/"))
        except OSError:
            continue
        return None if _is_whiteout(status) else status
    return None
