"""How many events one host may cause."""

from __future__ import annotations

import time

AT_ONCE = 20
SECONDS = 60.0
"""Until one more is allowed."""


class Budgets:
    """Events that a host's reports cause, by host and reason: the first 20, then one a minute. In memory."""

    def __init__(self) -> None:
        self._left: dict[tuple[str, str], tuple[float, float]] = {}  # how many were left, and when

    def allow(self, host_id: str, reason: str) -> bool:
        """Return whether one more event may be written, and count it."""
        at, key = time.monotonic(), (host_id, reason)
        left, then = self._left.get(key, (float(AT_ONCE), at))
        left = min(float(AT_ONCE), left + (at - then) / SECONDS)
        allowed = left >= 1
        self._left[key] = (left - 1 if allowed else left, at)
        return allowed
