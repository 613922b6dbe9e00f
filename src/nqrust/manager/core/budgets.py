"""How many events one host may cause, and how many changes of one VM its reports."""

from __future__ import annotations

import time

AT_ONCE = 20
SECONDS = 60.0
"""Until one more is allowed."""
_MANY = 20_000
"""Subjects and reasons, before those that have all of theirs again are forgotten."""


class Budgets:
    """Events that a host's reports cause, by host or VM and reason: the first 20, then one a minute. In memory."""

    def __init__(self) -> None:
        self._left: dict[tuple[str, str], tuple[float, float]] = {}  # how many were left, and when

    def allow(self, subject_id: str, reason: str) -> bool:
        """Return whether one more event may be written, and count it."""
        at, key = time.monotonic(), (subject_id, reason)
        if len(self._left) >= _MANY:
            whole = AT_ONCE * SECONDS
            self._left = {known: (left, then) for known, (left, then) in self._left.items() if at - then < whole}
        left, then = self._left.get(key, (float(AT_ONCE), at))
        left = min(float(AT_ONCE), left + (at - then) / SECONDS)
        allowed = left >= 1
        self._left[key] = (left - 1 if allowed else left, at)
        return allowed
