"""Reading a file that others may replace: a file that was looked at before is the one that is read now, not another one or a link,
and what never ends is not read.

Everything here raises OSError; local.py translates it into the port's errors.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat

Identity = tuple[int, int, int, int]
"""Device, inode, size and mtime in ns."""

_NULL = os.makedev(1, 3)
"""/dev/null, an empty file to many programs."""


def flags(seen: Identity | None) -> int:
    """Return flags for open(2). Where one file is meant, no link is followed."""
    return os.O_RDONLY | os.O_CLOEXEC | (0 if seen is None else os.O_NOFOLLOW | os.O_NONBLOCK)


def refuse_another(found: os.stat_result, seen: Identity | None, path: str) -> None:
    """Raise OSError (ESTALE) unless an open file is the one that somebody saw."""
    if seen not in (None, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)):
        raise OSError(errno.ESTALE, "it is another file than before", path)


def opened(path: str, seen: Identity | None = None) -> int:
    """Open a file for reading. Raises OSError (EINVAL) for a named pipe, which waits for a writer, and for a device such as
    /dev/zero. The pipe of a shell and a terminal, which people name as files, are read."""
    descriptor = os.open(path, flags(seen) | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        found = os.fstat(descriptor)
        refuse_another(found, seen, path)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if _never_ends(descriptor, found):
            raise OSError(errno.EINVAL, "is not a file", path)
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _never_ends(descriptor: int, found: os.stat_result) -> bool:
    if stat.S_ISFIFO(found.st_mode):
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("/")
    return stat.S_ISCHR(found.st_mode) and found.st_rdev != _NULL and not os.isatty(descriptor)


def sha256(path: str, seen: Identity | None = None) -> str:
    digest = hashlib.sha256()
    with open(opened(path, seen), "rb", buffering=0) as file:
        while piece := file.read(1 << 18):
            digest.update(piece)
    return digest.hexdigest()
