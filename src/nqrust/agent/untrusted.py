"""Files that a VM's user can replace, grow or hold: root opens the plain file that is meant, or nothing.

A link leads to any file of the host, and a second name to a file of somebody else. A FIFO or a lease (fcntl(2)) holds the
reader. A file with holes claims any size. So root opens without following links and without waiting, then looks at what it
opened, and never at a path again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator

from nqrust.agent.errors import Failed
from nqrust.host.errors import PathError, translating
from nqrust.host.port import Host

FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CLOSING = 1.0  # seconds that others get to close a file
_PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextlib.contextmanager
def folder(path: str) -> Iterator[int]:
    """Yield a descriptor of the folder at `path`. Raises PathError, also for a link."""
    with translating(path):
        descriptor = os.open(path, FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def opened(path: str, owner: int | None = None, *, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Yield a descriptor of the plain file at `path`. Neither it nor its folder may be a link.

    `owner`: the user who can write to the folder. The file must be that user's and have no second name. None: only root can
    write to the folder. `flags`: of open(2), for more than reading. Raises PathError.
    """
    where, _, name = path.rpartition("/")
    with folder(where) as directory, translating(path):
        descriptor = os.open(name, _PLAIN | flags, dir_fd=directory)
    try:
        _check(path, os.fstat(descriptor), owner)
        yield descriptor
    finally:
        os.close(descriptor)


def read(path: str, limit: int, owner: int | None = None) -> bytes:
    """Return the content of a plain file. Raises PathError, also if it is longer than `limit` bytes."""
    with opened(path, owner) as descriptor, translating(path):
        data = _all(descriptor, limit + 1)
    if len(data) > limit:
        raise PathError(path, f"it is longer than {limit} bytes", errno.EFBIG)
    return data


def tail(path: str, size: int, owner: int | None = None) -> bytes:
    """Return the last `size` bytes of a plain file, or all of a shorter one. Raises PathError."""
    with opened(path, owner) as descriptor, translating(path):
        os.lseek(descriptor, max(0, os.fstat(descriptor).st_size - size), os.SEEK_SET)
        return _all(descriptor, size)


def written(path: str, limit: int, owner: int) -> bytes | None:
    """Return what `owner` wrote to `path`, or None if that is no plain file, or longer than `limit` bytes."""
    try:
        return read(path, limit, owner)
    except PathError:
        return None


def cut(path: str, keep: int, owner: int) -> None:
    """Keep the last `keep` bytes of the plain file of `owner` at `path`, from the start of a line on. In place: that needs no
    room on a full disk, and its writers continue. Raises PathError."""
    where, _, name = path.rpartition("/")
    with folder(where) as directory, translating(path):
        descriptor = os.open(name, _PLAIN | os.O_RDWR | os.O_APPEND, dir_fd=directory)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != owner:
            raise PathError(path, "it is not a plain file of the VM's user", errno.EPERM)
        with translating(path):
            os.lseek(descriptor, max(0, found.st_size - keep), os.SEEK_SET)
            data = _all(descriptor, keep)
            os.ftruncate(descriptor, 0)
            _write(descriptor, data[data.find(b"\n") + 1 :])
    finally:
        os.close(descriptor)


def append(path: str, data: bytes, owner: int) -> None:
    """Add to the plain file of `owner` at `path`. Raises PathError."""
    with opened(path, owner, flags=os.O_RDWR | os.O_APPEND) as descriptor, translating(path):
        _write(descriptor, data)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def hand_over(host: Host, path: str, user: int) -> None:
    """Give the plain file at `path`, in a folder of root, to `user` (0: root) and to nobody else. Under a second name another
    user could have it, so a copy takes the place of a file that has one.

    Raises Failed (it is no plain file), PathError.
    """
    where, _, name = path.rpartition("/")
    with folder(where) as directory, translating(path):
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Failed("NQR-VMM-122", f"{path} is not a plain file.", "Put a plain file in its place, or delete the VM.")
        if found.st_nlink != 1:
            owner = str(user) if user else "root"
            host.copy_file(path, path, mode=0o600, owner=owner, group=owner)
            return
        here = f"/proc/self/fd/{descriptor}"  # fchown(2) refuses O_PATH; this name is the file, whatever the path becomes
        with translating(path):
            os.chown(here, user, user)
            os.chmod(here, 0o600)
    finally:
        os.close(descriptor)


def lengthen(path: str, size: int) -> None:
    """Make the plain file at `path`, in a folder of root, `size` bytes long. Raises PathError."""
    where, _, name = path.rpartition("/")
    with folder(where) as directory, translating(path):
        descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.ftruncate(descriptor, size)
        finally:
            os.close(descriptor)


def take(path: str, target: str, *, owner: int, limit: int) -> None:
    """Move the plain file that `owner` wrote at `path` to `target`, in a folder of root on the same file system.

    It is root's from then on, and `owner` can only read it. Raises PathError, also if it is longer than `limit` bytes.
    """
    where, _, name = path.rpartition("/")
    with opened(path, owner) as descriptor, folder(where) as directory, translating(path):
        if os.fstat(descriptor).st_size > limit:
            raise PathError(path, f"it is longer than {limit} bytes", errno.EFBIG)
        os.rename(name, target, src_dir_fd=directory)
        if not os.path.samestat(os.lstat(target), os.fstat(descriptor)):
            raise PathError(target, "it was replaced while it was moved")
        os.fchown(descriptor, 0, owner)
        os.fchmod(descriptor, 0o640)


def settle(host: Host, path: str, limit: int, keep_free: int) -> None:
    """Make sure that nothing has the file of root at `path` open for writing. If something still has after a second, a copy
    takes its place, and the file of before is emptied: whoever has it open would keep its room until it ends.

    `keep_free`: bytes that the copy leaves free. Raises PathError, also if the file is longer than `limit` bytes, and NoSpace."""
    with opened(path) as descriptor:
        found = os.fstat(descriptor)
        if found.st_size > limit:
            raise PathError(path, f"it is longer than {limit} bytes", errno.EFBIG)
        if _closed(host, descriptor, fcntl.F_RDLCK):
            return
        mode, group = stat.S_IMODE(found.st_mode), str(found.st_gid)
        try:
            host.copy_file(path, path, mode=mode, group=group, largest=limit, keep_free=keep_free)
        finally:
            _empty(descriptor)


def discard(path: str) -> None:
    """Empty the file of root at `path`, which is removed next, and which something may have open."""
    with contextlib.suppress(PathError), opened(path) as descriptor:
        _empty(descriptor)


def _empty(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # somebody has a lease
        again = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.ftruncate(again, 0)
        finally:
            os.close(again)


def take_back(host: Host, path: str, keep_free: int) -> None:
    """Give the plain file at `path`, in a folder that only root enters, to root, and make sure that nothing has it open.

    A process that had it can have passed its descriptor to one that lives on, over a socket (unix(7)): neither a new owner nor
    the end of its user's processes closes that one. If something still has the file open after a second, for reading or for
    writing, a copy takes its place. The file of before is emptied for a writer, which would keep its room. A reader may be a backup,
    and that would be cut short. `keep_free`: bytes that the copy leaves free. Raises Failed (no plain file), PathError, NoSpace.
    """
    hand_over(host, path, 0)
    with opened(path) as descriptor:
        if _closed(host, descriptor, fcntl.F_WRLCK):
            return
        host.copy_file(path, path, mode=0o600, keep_free=keep_free)
        if not _closed(host, descriptor, fcntl.F_RDLCK):
            _empty(descriptor)


def _closed(host: Host, descriptor: int, lease: int) -> bool:
    """Whether the kernel grants a lease within a second. It does so for F_RDLCK only while nobody has the file open for writing,
    and for F_WRLCK while nobody else has it open at all, or mapped. fcntl(2)"""
    deadline = host.monotonic() + _CLOSING
    while host.monotonic() < deadline:
        with contextlib.suppress(OSError):  # somebody has it, or this file system has no leases
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, lease)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            return True
        host.sleep(0.02)
    return False


def _check(path: str, found: os.stat_result, owner: int | None = None) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise PathError(path, "it is not a plain file", errno.EINVAL)
    if owner is None:
        return
    if found.st_uid != owner:
        raise PathError(path, "it belongs to another user", errno.EPERM)
    if found.st_nlink != 1:
        raise PathError(path, "it has a second name", errno.EMLINK)


def _all(descriptor: int, size: int) -> bytes:
    """Read up to `size` bytes: read(2) may return less than there is."""
    pieces, left = [], size
    while left > 0 and (piece := os.read(descriptor, min(left, 1 << 20))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)
