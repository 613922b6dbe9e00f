"""Puts what root has made into a folder that another user may change, without being led elsewhere: by descriptors only.

Root makes it in a folder of its own first. In the other folder, that user could put a link in the place of what root writes by path.

Everything here raises OSError; local.py translates it into the port's errors.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator

from nqrust.host.durable import filled_with, opened, replace_in, split, temporary_name
from nqrust.host.entering import inside
from nqrust.host.tree import remove_tree

_PIECE = 1 << 20


def place_content(data: bytes | Iterator[bytes], target: str, *, mode: int) -> None:
    """Write a file, or replace one. A link in its place is replaced, and none of another user on the way is followed."""
    folder, name = split(target)
    with inside(folder) as at:
        _replace(at, name, data, mode)


def place_file(source: str, target: str, *, mode: int) -> None:
    """Copy a file."""
    with open(source, "rb") as file:
        place_content(_pieces(file), target, mode=mode)


def place_folder(source: str, target: str) -> None:
    """Copy a folder of files to a new place. It appears there complete or not at all."""
    folder, name = split(target)
    temporary = temporary_name(name)
    with inside(folder) as at:
        try:
            os.mkdir(temporary, 0o700, dir_fd=at)
        except FileExistsError:  # of a run that was killed
            remove_tree(f"{folder}/{temporary}")
            os.mkdir(temporary, 0o700, dir_fd=at)
        with opened(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, at) as made:
            found = os.fstat(made)
            if (found.st_uid, stat.S_IMODE(found.st_mode)) != (os.geteuid(), 0o700) or os.listdir(made):
                raise OSError(errno.ESTALE, "another user has replaced it", target)
            for entry in sorted(os.listdir(source)):
                path = f"{source}/{entry}"
                with open(path, "rb") as file:
                    _replace(made, entry, _pieces(file), stat.S_IMODE(os.fstat(file.fileno()).st_mode))
            os.fchmod(made, 0o755)
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
        os.fsync(at)


def _replace(folder: int, name: str, data: bytes | Iterator[bytes], mode: int) -> None:
    replace_in(folder, name, filled_with(data), mode=mode, uid=os.geteuid(), gid=os.getegid(), xattrs={})


def _pieces(file: io.BufferedIOBase) -> Iterator[bytes]:
    return iter(lambda: file.read(_PIECE), b"")
