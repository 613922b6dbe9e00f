"""Time left of downloads, from the progress seen so far. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

_LEAST = 3.0
"""Seconds of progress before it tells anything about the rest."""


class Remaining:
    """Of any number of downloads, by name. `clock`: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: dict[str, tuple[int, int, float]] = {}
        self._last: dict[str, int] = {}

    def seconds(self, name: str, done: int, total: int) -> float | None:
        """Return the seconds left of `total` bytes, or None if nothing is known yet. Another total is another download."""
        now = self._clock()
        began, last = self._began.get(name), self._last.get(name, 0)
        self._last[name] = done
        if began is None or began[0] != total or done < last:
            self._began[name] = (total, done, now)
            return None
        passed, gained = now - began[2], done - began[1]
        return (total - done) * passed / gained if passed >= _LEAST and gained > 0 and done < total else None

    def keep(self, names: Collection[str]) -> None:
        """Forget all others."""
        self._began = {name: began for name, began in self._began.items() if name in names}
        self._last = {name: last for name, last in self._last.items() if name in names}
