"""Opens a folder whose content is to go or to change hands, without being led elsewhere by another user: path_resolution(7).

A user who may change a folder on the way may put a link there at any moment. So root follows a link only where root alone can
have put it, and holds each folder open while it looks for the next one.

Everything here raises OSError; local.py translates it into the port's errors.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

_FOLDER = os.O_DIRECTORY | os.O_CLOEXEC
_LINKS = 40
"""As many links as the kernel follows on one way."""


def entered(path: str) -> int:
    """Return a descriptor of the folder at `path`. For root: ELOOP for a link that another user could have put on the way."""
    if os.geteuid() != 0:
        return os.open(path, os.O_RDONLY | _FOLDER)
    way = _Way()
    try:
        return way.follow(path if path.startswith("/") else os.path.join(os.getcwd(), path))
    finally:
        os.close(way.folder)


@contextlib.contextmanager
def inside(path: str) -> Iterator[int]:
    """Hold the folder open for a block."""
    folder = entered(path)
    try:
        yield folder
    finally:
        os.close(folder)


class _Way:
    """One way, from the root folder on. `alone`: nobody but root can change where it has led so far."""

    def __init__(self) -> None:
        self.at, self.alone, self.links = "/", True, 0
        self.folder = os.open("/", os.O_PATH | _FOLDER)

    def follow(self, path: str) -> int:
        ahead = _parts(path)
        while ahead:
            part = ahead.pop(0)
            if self.at == "/" and part == "proc":  # its links are the kernel's, and lead where their text does not
                return os.open("/".join(["/proc", *ahead]), os.O_RDONLY | _FOLDER)
            there = os.stat(part, dir_fd=self.folder, follow_symlinks=False)
            self.alone = self.alone and is_roots(os.fstat(self.folder), there)
            if stat.S_ISLNK(there.st_mode):
                ahead = _parts(self._target(part)) + ahead
            else:
                self._enter(os.open(part, os.O_PATH | os.O_NOFOLLOW | _FOLDER, dir_fd=self.folder))
                self.at = os.path.dirname(self.at) if part == ".." else os.path.join(self.at, part)
        return os.open(".", os.O_RDONLY | _FOLDER, dir_fd=self.folder)

    def _target(self, link: str) -> str:
        self.links += 1
        if not self.alone or self.links > _LINKS:
            why = "too many links" if self.alone else "a link that another user than root may have put there"
            raise OSError(errno.ELOOP, why, os.path.join(self.at, link))
        target = os.readlink(link, dir_fd=self.folder)
        if target.startswith("/"):
            self._enter(os.open("/", os.O_PATH | _FOLDER))
            self.at = "/"
        return target

    def _enter(self, folder: int) -> None:
        os.close(self.folder)
        self.folder = folder


def is_roots(folder: os.stat_result, entry: os.stat_result) -> bool:
    """Return whether root alone can replace an entry of a folder."""
    shared = folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return folder.st_uid == 0 and (not shared or (bool(folder.st_mode & stat.S_ISVTX) and entry.st_uid == 0))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
