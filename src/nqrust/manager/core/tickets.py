"""Console tickets: one use, half a minute.

A browser cannot send a token with a WebSocket, and a token in a URL would end up in logs. A used ticket is worthless.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable

from nqrust.manager.core.principal import Principal

TTL_SECONDS = 30
_MOST = 10_000


class Tickets:
    """Held in memory, as hashes. `clock`: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[str, tuple[str, Principal, float]] = {}

    def issue(self, vm_id: str, who: Principal) -> str:
        """Return a new ticket for one VM's console."""
        now = self._clock()
        self._open = {k: v for k, v in self._open.items() if v[2] > now}
        if len(self._open) >= _MOST:
            self._open.pop(next(iter(self._open)))
        ticket = secrets.token_urlsafe(32)
        self._open[_digest(ticket)] = (vm_id, who, now + TTL_SECONDS)
        return ticket

    def redeem(self, ticket: str) -> tuple[str, Principal] | None:
        """Return (VM id, principal) once; None if the ticket is unknown, used or expired."""
        found = self._open.pop(_digest(ticket), None)
        return found[:2] if found is not None and found[2] > self._clock() else None


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode("utf-8", "replace")).hexdigest()
