"""Which requests wait, so that many of one sender keep nobody else waiting.

A token that the manager does not know costs three questions to the database, and the manager has 16 connections to it. A stranger
with 200 connections made everybody else wait for seconds, and so did a viewer. With 1,000 connections from several networks,
requests failed, because they got no connection to the database in time. So the requests at work of one sender together get a few
connections, and its checks get a few.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from nqrust.manager.core.credentials import Credentials, read
from nqrust.manager.core.principal import Principal
from nqrust.manager.errors import NotAuthenticated, TooManyRequests, WrongCredentials
from nqrust.manager.store import shares
from nqrust.serving.turns import Turns

AT_ONCE, SECONDS = 200, 0.02
"""Requests of the strangers of one source at once, and seconds until one more."""
LOOKUPS, _OF_A_SOURCE = 4, 2
"""Unknown tokens that are looked up at the same time: of all sources, and of one."""
WORKING = 32
"""Requests of one sender that the manager works on at the same time. Some of them wait for a host, or send a file."""
CONNECTIONS, CHECKING = 4, 4
"""Connections to the database of one sender: for the requests at work, and to check known credentials."""
WAITING = 500
"""Requests of one sender that wait. A client that goes away leaves its request here."""
_REMEMBERED = 10_000


def _sent(authorization: str | None) -> Credentials:
    """Return what the header says. A header that `authenticate` refuses says nothing."""
    try:
        return read(authorization)
    except NotAuthenticated:
        return Credentials()


def _sender(principal: Principal) -> str:
    own = principal.user_id if principal.kind == "user" else principal.token_id
    return f"{principal.kind} {own or principal.host_id or principal.join_id or principal.name}"


class _Turn:
    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)
        self._waiting = 0

    async def __aenter__(self) -> None:
        if self._waiting >= WAITING:
            raise TooManyRequests()
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    async def __aexit__(self, *_: object) -> None:
        self._free.release()


class Callers:
    """Each wait raises TooManyRequests if too many wait already. `clock`: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()
        self._strangers = Turns(AT_ONCE, SECONDS, longest=WAITING * SECONDS, clock=clock)
        self._turns: WeakValueDictionary[str, _Turn] = WeakValueDictionary()
        self._connections: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._lookups = asyncio.Semaphore(LOOKUPS)

    def learn(self, key: str, principal: Principal | None = None) -> None:
        """Remember credentials that were right, and whose they are as soon as that is known."""
        known = self._known.pop(key, key)
        self._known[key] = known if principal is None else _sender(principal)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    @asynccontextmanager
    async def asking(self, authorization: str | None, source: str) -> AsyncIterator[None]:
        """Wait for the turn to check credentials, and remember whether they were right. The sender's checks wait together."""
        sent = _sent(authorization)
        key = sent.key
        try:
            if key in self._known:
                async with self._turn(f"check {self._known[key]}", CHECKING):
                    yield
            elif sent.token:
                await self.stranger(source)
                async with self._turn(f"source {source}", _OF_A_SOURCE), self._lookups:
                    yield
            else:  # passwords have limits of their own
                await self.stranger(source)
                yield
        except (NotAuthenticated, WrongCredentials):
            self._known.pop(key, None)
            raise
        self.learn(key)

    @asynccontextmanager
    async def working(self, principal: Principal) -> AsyncIterator[None]:
        """Wait for the turn of a request of this sender. All sessions of a user are one sender."""
        sender = _sender(principal)
        connections = self._connections.setdefault(sender, asyncio.Semaphore(CONNECTIONS))
        async with self._turn(sender, WORKING):
            with shares.of_sender(connections):
                yield

    async def stranger(self, source: str) -> None:
        """Wait for the turn of a request without known credentials."""
        wait = self._strangers.wait(source)
        if wait is None:
            raise TooManyRequests()
        if wait:
            await asyncio.sleep(wait)

    def _turn(self, key: str, most: int) -> _Turn:
        return self._turns.setdefault(key, _Turn(most))
