"""Slows down guessing: after five failures in a row each further failure doubles the wait."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from weakref import WeakValueDictionary

FREE_FAILURES = 5
LONGEST_WAIT = 900.0
_REMEMBERED = 10_000


class Throttle:
    """Counts failures per key (user and source address). `clock`: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[tuple[str, ...], tuple[int, float]] = OrderedDict()
        self._turns: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()

    def turn(self, *key: str) -> asyncio.Lock:
        """Return a lock, held from `wait` to `failed` or `succeeded`.

        Simultaneous guesses are thus counted one by one, and simultaneous correct passwords do not count as guesses.
        """
        return self._turns.setdefault(key, asyncio.Lock())

    def wait(self, *key: str) -> float:
        """Return seconds until this key may try again; 0: now."""
        count, last = self._failures.get(key, (0, 0.0))
        if count < FREE_FAILURES:
            return 0.0
        return max(0.0, last + min(LONGEST_WAIT, 2.0 ** min(count - FREE_FAILURES + 1, 10)) - self._clock())

    def failed(self, *key: str) -> None:
        count, last = self._failures.pop(key, (0, 0.0))
        if last and self._clock() - last > LONGEST_WAIT:
            count = 0
        self._failures[key] = (count + 1, self._clock())
        while len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, *key: str) -> None:
        self._failures.pop(key, None)


class Buckets:
    """A token bucket for each key: `most` at once, and one more after each interval. `clock`: seconds, monotonic."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def _now(self, key: str) -> float:
        left, at = self._left.get(key, (float(self._most), self._clock()))
        return min(self._most, left + (self._clock() - at) / self._seconds)

    def wait(self, key: str) -> float:
        """Return seconds until this key has one left; 0: now."""
        return max(0.0, (1 - self._now(key)) * self._seconds)

    def take(self, key: str) -> None:
        """Take one, if any is left."""
        left = max(0.0, self._now(key) - 1)
        self._left.pop(key, None)
        self._left[key] = (left, self._clock())
        while len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
