"""Opens folders and files of the host and of the clone without following a link, for mount(2) by descriptor.

Users own folders in which root has mounted something. They may rename these and put a link there at any moment, also between a
look at the mounts and mount(2). Mount points have no links on the way to them, so none is followed. Everything here raises OSError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from nqrust.host.mounts import MOUNTINFO, Mount, parse_mountinfo

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def reached(root: str, path: str) -> Iterator[int]:
    """Open (O_PATH) what is at `path` below the folder `root`, of which no user can change the way. Raises ELOOP for a link."""
    at = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in path.split("/"):
            if name in ("", "."):
                continue
            if name == "..":
                raise OSError(errno.EINVAL, "a mount point has no such name", path)
            step = os.open(name, _STEP, dir_fd=at)
            os.close(at)
            at = step
            if stat.S_ISLNK(os.fstat(at).st_mode):
                raise OSError(errno.ELOOP, "it is a link", path)
        yield at
    finally:
        os.close(at)


@contextlib.contextmanager
def mounted(path: str, fstype: str) -> Iterator[tuple[int, Mount]]:
    """Open the file system of the type that is mounted at `path` in this process's namespace. Raises ESTALE if it is not there."""
    with reached("/", path) as opened:
        number = mount_id(opened)
        mount = next((one for one in _mounts() if one.mount_id == number), None)
        if mount is None or (mount.mount_point, mount.fstype) != (path, fstype):
            raise OSError(errno.ESTALE, "it is no longer mounted there", path)
        yield opened, mount


def name_of(descriptor: int) -> str:
    """Return the path that leads to what is open, wherever it moves (proc(5))."""
    return f"/proc/self/fd/{descriptor}"


def mount_id(descriptor: int) -> int:
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


def _mounts() -> tuple[Mount, ...]:
    with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as file:
        return parse_mountinfo(file.read())
