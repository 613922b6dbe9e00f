"""Slows down guessing: after five failures in a row each further one doubles the wait."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

FREE_FAILURES = 5
LONGEST_WAIT = 900.0
_REMEMBERED = 10_000


class Throttle:
    """Counts failures per key (user and source address). `clock`: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, ...], tuple[int, float]] = OrderedDict()

    def wait(self, *key: str) -> float:
        """Seconds until this key may try again; 0 when it may now."""
        count, last = self._failures.get(key, (0, 0.0))
        if count < FREE_FAILURES:
            return 0.0
        return max(0.0, last + min(LONGEST_WAIT, 2.0 ** (count - FREE_FAILURES + 1)) - self._clock())

    def failed(self, *key: str) -> None:
        count, last = self._failures.pop(key, (0, 0.0))
        if last and self._clock() - last > LONGEST_WAIT:
            count = 0
        self._failures[key] = (count + 1, self._clock())
        while len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, *key: str) -> None:
        self._failures.pop(key, None)
