"""Tickets for consoles and sessions in guests: one use, half a minute.

A browser cannot send a token with a WebSocket, and a token in a URL would end up in logs. A used ticket is worthless.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

from nqrust.manager.core.principal import Principal

TTL_SECONDS = 30
CONSOLE, EXEC = "console", "exec"
_MOST = 10_000
_OF_A_USER = 256
"""Of one user, with all tokens. The oldest one goes for one more, so that no user takes the tickets of others."""


class Ticket(NamedTuple):
    purpose: str
    vm_id: str
    who: Principal


class Tickets:
    """Held in memory, as hashes. `clock`: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[str, tuple[str, str, Principal, float]] = {}

    def issue(self, vm_id: str, who: Principal, purpose: str = CONSOLE) -> str:
        """Return a new ticket for one VM, and one purpose: a ticket for the console opens nothing else."""
        now = self._clock()
        self._open = {k: v for k, v in self._open.items() if v[3] > now}
        own = [digest for digest, (_, _, other, _) in self._open.items() if other.owner == who.owner]
        if len(own) >= _OF_A_USER or len(self._open) >= _MOST:
            del self._open[next(iter(own or self._open))]
        ticket = secrets.token_urlsafe(32)
        self._open[_digest(ticket)] = (purpose, vm_id, who, now + TTL_SECONDS)
        return ticket

    def redeem(self, ticket: str) -> Ticket | None:
        """Return what the ticket is for, once; None if it is unknown, used or expired."""
        found = self._open.pop(_digest(ticket), None)
        return Ticket(*found[:3]) if found is not None and found[3] > self._clock() else None


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode("utf-8", "replace")).hexdigest()
