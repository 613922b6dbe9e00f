"""Notices that the installer has replaced files, so that the manager reads them again without a restart."""

from __future__ import annotations

import os
from collections.abc import Iterable


class Files:
    """`paths`: files that are replaced, never written in place. `changed` compares with its last call."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = tuple(paths)
        self._seen = self._look()

    def changed(self) -> bool:
        now = self._look()
        if now == self._seen:
            return False
        self._seen = now
        return True

    def again(self) -> None:
        """Make the next call find a change: this one could not be used yet."""
        self._seen = ()

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        found: list[tuple[int, int, int] | None] = []
        for path in self._paths:
            try:
                stat = os.stat(path)
            except OSError:
                found.append(None)
            else:
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(found)
