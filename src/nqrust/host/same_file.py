"""A file that was looked at before is the one that is read now. Others may put another file, or a link, at its path in between.

Everything here raises OSError; local.py translates it into the port's errors.
"""

from __future__ import annotations

import errno
import hashlib
import os

Identity = tuple[int, int, int, int]
"""Device, inode, size and mtime in ns."""


def flags(seen: Identity | None) -> int:
    """Return flags for open(2). Where one file is meant, no link is followed."""
    return os.O_RDONLY | os.O_CLOEXEC | (0 if seen is None else os.O_NOFOLLOW | os.O_NONBLOCK)


def refuse_another(found: os.stat_result, seen: Identity | None, path: str) -> None:
    """Raise OSError (ESTALE) unless an open file is the one that somebody saw."""
    if seen not in (None, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)):
        raise OSError(errno.ESTALE, "it is another file than before", path)


def sha256(path: str, seen: Identity | None = None) -> str:
    digest = hashlib.sha256()
    with open(os.open(path, flags(seen)), "rb", buffering=0) as file:
        refuse_another(os.fstat(file.fileno()), seen, path)
        while piece := file.read(1 << 18):
            digest.update(piece)
    return digest.hexdigest()
