"""The open connections of one listener, and which of them has to go for a new one.

A client that has not sent a whole request, or does not read its answer, makes room first, the oldest of them. So does a stranger
whose request waits for its turn. A slow client thus keeps nobody out, and an honest one, which sends its request at once, is never
the oldest. If no client is slow, the source with the most connections makes room for others.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from nqrust.serving.sources import LOOPBACK


@dataclass(frozen=True)
class Bounds:
    """`connections`: in total. `per_source`: of one source; `local`: of one user of this machine. Times in seconds.

    `head`: for the header of a request. `body`: for its body, as a last resort after the application's own limit. `write`: for a
    client that does not read, and after the last answer until it has read everything.
    """

    connections: int = 1000
    per_source: int = 200
    local: int = 500
    head: float = 10.0
    body: float = 40.0
    write: float = 40.0

    def of(self, group: str) -> int:
        return self.local if group.partition(" ")[0] == LOOPBACK else self.per_source


class Connection(Protocol):
    @property
    def gone(self) -> bool:
        """Return whether its socket is closed."""

    @property
    def served(self) -> bool:
        """Return whether it ever sent a whole request header."""

    @property
    def waiting(self) -> bool:
        """Return whether the server waits for this client: for a header or a body, for it to read, or for its turn as a
        stranger."""

    def evict(self) -> None:
        """Close it."""


class Connections:
    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._open: dict[Connection, str] = {}
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection, group: str) -> bool:
        """Count a new connection and return True, or return False if there is no room and none can be made."""
        if self._counts[group] >= self.bounds.of(group) or len(self._open) >= self.bounds.connections:
            self._prune()
        if self._counts[group] >= self.bounds.of(group) and not self._make_room(group):
            return False
        if len(self._open) >= self.bounds.connections and not self._make_room(None) and not self._share(group):
            return False
        self._open[connection] = group
        self._counts[group] += 1
        return True

    def remove(self, connection: Connection) -> None:
        group = self._open.pop(connection, None)
        if group is not None:
            self._counts[group] -= 1
            if not self._counts[group]:
                del self._counts[group]

    def _prune(self) -> None:
        """Forget connections that became WebSockets and have ended: their protocol does not report it here."""
        for connection in [one for one in self._open if one.gone]:
            self.remove(connection)

    def _make_room(self, group: str | None) -> bool:
        """Close one connection: of this group, or of the group with the most."""
        waiting = [(one, its) for one, its in self._open.items() if one.waiting and group in (None, its)]
        if not waiting:
            return False
        # min() takes the first of equals, and the dictionary has the oldest first.
        victim, _ = min(waiting, key=lambda pair: (pair[0].served, -self._counts[pair[1]]))
        self._evict(victim)
        return True

    def _share(self, group: str) -> bool:
        """Close the oldest connection of the group with the most, if `group` has fewer even with one more."""
        largest, count = self._counts.most_common(1)[0]
        if count <= self._counts[group] + 1:
            return False
        self._evict(next(one for one, its in self._open.items() if its == largest))
        return True

    def _evict(self, victim: Connection) -> None:
        self.remove(victim)
        victim.evict()
