"""Changes to a file in a folder where other users may write. They can put a link, or another file, in the place of a name at any
time, path_resolution(7). So the folder is opened once, and then the file in it. Its owner and mode come from the file that was read."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

from nqrust.host import durable
from nqrust.host.errors import translating

_LARGEST = 16 << 20
"""Bytes: its owner may have it grow without end."""


class Edits:
    def edit_file(
        self, path: str, change: Callable[[bytes], bytes | None], *, follow: bool = True, remove_empty: bool = False
    ) -> None:
        with translating(path):
            folder, name = durable.split(path)
            with durable.opened(folder, durable.FOLDER) if follow else _opened_without_links(folder) as folder_fd:
                _edit(folder_fd, name, change, path, remove_empty)


def _edit(folder_fd: int, name: str, change: Callable[[bytes], bytes | None], path: str, remove_empty: bool) -> None:
    # O_NONBLOCK: a FIFO does not hold the caller.
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        with open(fd, "rb", closefd=False) as file:
            before = file.read(_LARGEST + 1)
        if len(before) > _LARGEST:
            raise OSError(errno.EFBIG, f"it is longer than {_LARGEST} bytes", path)
        xattrs = _xattrs(fd)
    finally:
        os.close(fd)
    after = change(before)
    if after is None:
        return
    if remove_empty and not after.strip():
        durable.remove_in(folder_fd, name)
        return
    mode = stat.S_IMODE(found.st_mode) & 0o777
    durable.replace_in(folder_fd, name, durable.filled_with(after), mode=mode, uid=found.st_uid, gid=found.st_gid, xattrs=xattrs)


def _xattrs(fd: int) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(fd, name) for name in os.listxattr(fd)}
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM, errno.ENODATA):
            return {}
        raise


@contextlib.contextmanager
def _opened_without_links(path: str) -> Iterator[int]:
    flags = durable.FOLDER | os.O_CLOEXEC
    fd = os.open("/", flags)
    for part in filter(None, path.split("/")):
        above = fd
        try:
            fd = os.open(part, flags | os.O_NOFOLLOW, dir_fd=above)
        except NotADirectoryError as error:
            raise OSError(errno.ELOOP, "there is a link on the way", path) from error
        finally:
            os.close(above)
    try:
        yield fd
    finally:
        os.close(fd)
