"""Turns of many sources: each takes so much at once, then a steady amount. What comes earlier waits."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_REMEMBERED = 10_000
"""Sources. The one that came longest ago is forgotten first."""


class Turns:
    """`at_once`: what a source takes without waiting. `seconds`: until one more. `longest`: seconds that one waits at most.
    `clock`: seconds, monotonic."""

    def __init__(
        self, at_once: float, seconds: float, *, longest: float = float("inf"), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._seconds, self._longest, self._clock = at_once * seconds, seconds, longest, clock
        self._next: OrderedDict[str, float] = OrderedDict()

    def wait(self, source: str, count: float = 1) -> float | None:
        """Count one, or `count`, and return the seconds until its turn. None: it would wait longer than allowed, and is not
        counted."""
        now = self._clock()
        before = max(self._next.pop(source, float("-inf")), now - self._burst)
        turn = before + count * self._seconds
        late = turn - now > self._longest
        self._next[source] = before if late else turn
        if len(self._next) > _REMEMBERED:
            self._next.popitem(last=False)
        return None if late else max(turn - now, 0.0)
