"""Limits on guessing passwords: per user name and source, per source, and for the web UI as a whole.

The limit per source stops spraying, one attempt at many names each. A user who signed in from there before is exempt from it,
so that a guesser does not lock out honest users of the same source.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from nqrust.manager.core.source import Source
from nqrust.manager.core.throttle import Buckets, Throttle

FAILURES = 20
"""Failures of a source at once, whatever the user names."""
PAUSE = 30.0
"""Seconds to the next one, and so the longest wait of another user of that source."""
_UI_FAILURES, _UI_PAUSE = 200, 3.0
_KNOWN_SECONDS = 30 * 86400.0
_REMEMBERED = 10_000


class Guesses:
    """`clock`: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._users = Throttle(lambda: self.clock())
        self._sources = Buckets(FAILURES, PAUSE, lambda: self.clock())
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()
        # A proxy on the UI's machine may invent addresses, so all users of the UI together have a limit too.
        self._ui = Buckets(_UI_FAILURES, _UI_PAUSE, lambda: self.clock())

    def turn(self, source: Source) -> asyncio.Lock:
        """Return the source's lock, held from `wait` to `failed` or `succeeded`: guesses sent at once count one by one."""
        return self._users.turn(source.group)

    def knows(self, username: str, source: Source) -> bool:
        """Return whether this user signed in from this source in the last 30 days."""
        return self._known.get((username, source.group), -_KNOWN_SECONDS) > self.clock() - _KNOWN_SECONDS

    def wait(self, username: str, source: Source) -> float:
        """Return seconds until this user may try from this source; 0: now."""
        waits = [self._users.wait(username, source.group)]
        if not self.knows(username, source):
            waits.append(self._sources.wait(source.group))
            if source.by_ui:
                waits.append(self._ui.wait(source.peer))
        return max(waits)

    def failed(self, username: str, source: Source) -> None:
        self._users.failed(username, source.group)
        self._sources.take(source.group)
        if source.by_ui:
            self._ui.take(source.peer)

    def succeeded(self, username: str, source: Source) -> None:
        """Forget the failures of this user there, but not those of the source: a guesser may have an account too."""
        self._users.succeeded(username, source.group)
        self._known.pop((username, source.group), None)
        self._known[username, source.group] = self.clock()
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
