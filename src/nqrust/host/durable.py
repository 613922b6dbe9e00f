"""Changes to a file system that are atomic and survive a power cut.

New content is written to `.NAME.nqr-new` beside its target, synced, and renamed over it (rename(2)); then the folder is
synced. The temporary name is fixed, so that the next write or removal of the same path finds and removes the remains of a
SIGKILL. A flock(2) on it keeps two writers apart.

With `synced` false nothing is synced: for files that their owner writes again after a power cut. Each sync waits for the disk.

Everything here raises OSError; local.py translates it into the port's errors.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping

from nqrust.host.entering import entered, inside
from nqrust.host.same_file import Identity, flags, refuse_another

FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int), ioctl_ficlone(2)
FOLDER = os.O_RDONLY | os.O_DIRECTORY
_PIECE = 1 << 20
_FINE, _COARSE, _RUN = 1 << 16, 1 << 18, 1 << 12
"""Pieces of a file that are copied with each hole between them, the least bytes of each further piece, and a run of zeros in it that
stays a hole."""
_WAIT_FOR_WRITER = 10.0  # seconds


def write_file(
    path: str,
    data: bytes | Iterator[bytes],
    *,
    mode: int,
    uid: int,
    gid: int,
    xattrs: Mapping[str, bytes],
    synced: bool = True,
) -> None:
    folder, name = split(path)
    with opened(folder, FOLDER) as folder_fd:
        replace_in(folder_fd, name, filled_with(data), mode=mode, uid=uid, gid=gid, xattrs=xattrs, synced=synced)


def filled_with(data: bytes | Iterator[bytes]) -> Callable[[int], None]:
    """Return what writes `data` into an open file."""

    def fill(fd: int) -> None:
        for piece in (data,) if isinstance(data, bytes) else data:
            view = memoryview(piece)
            while view:
                view = view[os.write(fd, view) :]

    return fill


def copy_file(
    source: str,
    target: str,
    *,
    mode: int,
    uid: int,
    gid: int,
    largest: int | None = None,
    keep_free: int = 0,
    seen: Identity | None = None,
) -> None:
    """Copy a file, with shared blocks if the file system supports it (FICLONE), otherwise with its holes.

    `largest`: bytes above which it is not copied. Its owner may change it meanwhile. `keep_free`: bytes that the file system of
    the copy keeps; raises OSError (ENOSPC). `seen`: the source as somebody saw it before; raises OSError (ESTALE) for another file,
    and for one that changes meanwhile.
    """
    # O_NONBLOCK: neither a FIFO nor a lease of the file's owner holds the caller.
    with opened(source, os.O_NONBLOCK | flags(seen)) as source_fd:
        found = os.fstat(source_fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", source)
        _refuse_longer(found, largest, source)
        refuse_another(found, seen, source)

        def fill(fd: int) -> None:
            try:
                fcntl.ioctl(fd, FICLONE, source_fd)
            except OSError:
                _copy_with_holes(source_fd, fd, found.st_size, keep_free)
            _refuse_longer(os.fstat(fd), largest, source)
            refuse_another(os.fstat(source_fd), seen, source)

        folder, name = split(target)
        with opened(folder, FOLDER) as folder_fd:
            replace_in(folder_fd, name, fill, mode=mode, uid=uid, gid=gid, xattrs={})


def _refuse_longer(found: os.stat_result, largest: int | None, path: str) -> None:
    if largest is not None and found.st_size > largest:
        raise OSError(errno.EFBIG, f"it is longer than {largest} bytes", path)


def make_directory(path: str, *, mode: int, uid: int, gid: int, synced: bool = True) -> None:
    """Create one level. 0700 until owner and mode are set, so that nobody gets in between."""
    folder, name = split(path)
    with opened(folder, FOLDER) as folder_fd:
        os.mkdir(name, 0o700, dir_fd=folder_fd)
        try:
            with opened(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, folder_fd) as fd:
                _own(fd, uid, gid)
                os.fchmod(fd, mode)
        except BaseException:
            os.rmdir(name, dir_fd=folder_fd)
            raise
        if synced:
            _sync(folder_fd)


def _own(fd: int, uid: int, gid: int) -> None:
    """Change the owner, unless it is right: a filter of system calls may refuse fchown(2) to a program without privileges."""
    found = os.fstat(fd)
    if (found.st_uid, found.st_gid) != (uid, gid):
        os.fchown(fd, uid, gid)


def make_symlink(target: str, path: str) -> None:
    """Create, or replace a symlink in one rename. Anything else at `path` is EEXIST."""
    folder, name = split(path)
    temporary = temporary_name(name)
    with opened(folder, FOLDER) as folder_fd:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISLNK(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode):
                raise FileExistsError(errno.EEXIST, "there is something else that is not a symlink", path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder_fd)
        os.symlink(target, temporary, dir_fd=folder_fd)
        try:
            os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        except BaseException:
            os.unlink(temporary, dir_fd=folder_fd)
            raise
        _sync(folder_fd)


def rename(source: str, target: str) -> None:
    (folder, name), (other, new) = split(source), split(target)
    with inside(folder) as from_fd, inside(other) as to_fd:
        os.rename(name, new, src_dir_fd=from_fd, dst_dir_fd=to_fd)
        for fd in {from_fd, to_fd}:
            _sync(fd)


def set_mode(path: str, *, mode: int, uid: int, gid: int) -> None:
    """chown, then chmod (chown clears set-user-id), without following links: a symlink only changes owner (symlink(7))."""
    if not path.strip("/"):
        folder, name = "/", "."
    else:
        folder, name = split(path)
    with inside(folder) as folder_fd, opened(name, os.O_PATH | os.O_NOFOLLOW, folder_fd) as fd:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            os.chown(name, uid, gid, dir_fd=folder_fd, follow_symlinks=False)
            return
        # fchmod(2) refuses O_PATH descriptors. Their name below /proc is the object, even if the path changes.
        here = f"/proc/self/fd/{fd}"
        os.chown(here, uid, gid)
        os.chmod(here, mode)


def remove(path: str) -> None:
    """Unlink a file or symlink, and the remains of an interrupted write. A missing one is not an error."""
    folder, name = split(path)
    try:
        folder_fd = entered(folder)
    except FileNotFoundError:
        return
    try:
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, "is a directory", path)
            os.unlink(name, dir_fd=folder_fd)
        _clear_leftover(temporary_name(name), folder_fd)
        _sync(folder_fd)
    finally:
        os.close(folder_fd)


def remove_in(folder_fd: int, name: str) -> None:
    """Unlink a file of an open folder, and the remains of an interrupted write."""
    os.unlink(name, dir_fd=folder_fd)
    _clear_leftover(temporary_name(name), folder_fd)
    _sync(folder_fd)


def remove_directory(path: str) -> None:
    folder, name = split(path)
    with inside(folder) as folder_fd:
        os.rmdir(name, dir_fd=folder_fd)
        _sync(folder_fd)


def split(path: str) -> tuple[str, str]:
    """Return folder and name. A trailing slash does not count."""
    folder, name = os.path.split(path.rstrip("/"))
    if not name or name in (".", ".."):
        raise OSError(errno.EINVAL, "not a path that can be changed", path)
    return folder or "/", name


def temporary_name(name: str) -> str:
    """Return the temporary name: fixed, and short enough for NAME_MAX (255 bytes)."""
    if len(os.fsencode(name)) > 230:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{name}.nqr-new"


def replace_in(
    folder_fd: int,
    name: str,
    fill: Callable[[int], None],
    *,
    mode: int,
    uid: int,
    gid: int,
    xattrs: Mapping[str, bytes],
    synced: bool = True,
) -> None:
    """Replace a file of an open folder."""
    temporary = temporary_name(name)
    fd = _create_locked(temporary, folder_fd)
    try:
        try:
            fill(fd)
            for key, value in xattrs.items():
                os.setxattr(fd, key, value)
            _own(fd, uid, gid)
            os.fchmod(fd, mode)
            if synced:
                os.fsync(fd)
            os.rename(temporary, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder_fd)
            raise
        if synced:
            _sync(folder_fd)
    finally:
        os.close(fd)


def _create_locked(name: str, folder_fd: int) -> int:
    """Create a new, empty file, readable by its owner only, and lock it."""
    deadline = time.monotonic() + _WAIT_FOR_WRITER
    while True:
        try:
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder_fd)
        except FileExistsError:
            if not _clear_leftover(name, folder_fd):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(fd, name, folder_fd):
                return fd
        except OSError:
            pass  # a second writer removed it as a leftover between open and lock
        os.close(fd)


def _clear_leftover(name: str, folder_fd: int) -> bool:
    """Unlink a temporary file without a live writer. Returns False if it has one."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        os.unlink(name, dir_fd=folder_fd)  # a symlink: left by make_symlink, or planted; never followed
        return True
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if _is_at(fd, name, folder_fd):
            os.unlink(name, dir_fd=folder_fd)
        return True
    finally:
        os.close(fd)


def _is_at(fd: int, name: str, folder_fd: int) -> bool:
    try:
        there = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(fd))


def _copy_with_holes(source: int, target: int, size: int, keep_free: int) -> None:
    """Copy with lseek(2) SEEK_DATA / SEEK_HOLE. File systems without them report one piece of data.

    The maker of a file with a hole after each block must not decide how long that takes: after many pieces, small holes are
    read as zeros, which takes no longer than a file of this length without holes. Long runs of zeros stay holes.
    """
    os.ftruncate(target, size)
    position = pieces = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            start = position
        end = size
        with contextlib.suppress(OSError):
            end = min(size, os.lseek(source, start, os.SEEK_HOLE))
        if end <= start:
            end = size
        pieces += 1
        if pieces > _FINE:
            end = min(size, max(end, start + _COARSE))
        _copy_range(source, target, start, end, keep_free, sparse=pieces > _FINE)
        position = end


def _copy_range(source: int, target: int, start: int, end: int, keep_free: int, *, sparse: bool = False) -> None:
    """`sparse`: write no zeros, because the target has a hole there."""
    while start < end:
        piece = os.pread(source, min(_PIECE, end - start), start)
        if not piece:
            return  # the source shrank during the copy
        if keep_free:
            room = os.fstatvfs(target)
            if room.f_bavail * room.f_frsize - len(piece) < keep_free:
                raise OSError(errno.ENOSPC, f"{keep_free >> 20} MiB must stay free")
        for at in range(0, len(piece), _RUN if sparse else len(piece)):
            block = piece[at : at + _RUN] if sparse else piece
            if not sparse or block.count(0) < len(block):
                _write(target, block, start + at)
        start += len(piece)


def _write(target: int, data: bytes, position: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(target, data[written:], position + written)


def _sync(folder_fd: int) -> None:
    # Some file systems (FUSE, 9p) cannot sync a folder: EINVAL. The rename is then as durable as possible there.
    with contextlib.suppress(OSError):
        os.fsync(folder_fd)


@contextlib.contextmanager
def opened(path: str, flags: int, dir_fd: int | None = None) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)
