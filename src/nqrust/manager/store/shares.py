"""How many of the pool's connections the requests of one sender use at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

from nqrust.manager.errors import DatabaseAway

SECONDS = 10.0
"""How long a request waits for its turn, as for a connection of the pool."""


class _Share:
    """Of one request: its sender's turns, and how many connections the request has."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self.turns, self.open = turns, 0


_share: ContextVar[_Share | None] = ContextVar("share", default=None)


@contextmanager
def of_sender(turns: asyncio.Semaphore) -> Iterator[None]:
    """Let the current request take its connections in turn with the sender's other requests, and so what it starts."""
    token = _share.set(_Share(turns))
    try:
        yield
    finally:
        _share.reset(token)


@asynccontextmanager
async def connection() -> AsyncIterator[None]:
    """Wait for a turn, and hold it. A request that has a connection needs no second turn: it could wait for itself. Raises
    DatabaseAway."""
    share = _share.get()
    if share is None or share.open:
        yield
        return
    try:
        await asyncio.wait_for(share.turns.acquire(), SECONDS)
    except asyncio.TimeoutError:
        raise DatabaseAway("Your other requests take all connections to the database that you may have.") from None
    share.open += 1
    try:
        yield
    finally:
        share.open -= 1
        share.turns.release()


@contextmanager
def apart() -> Iterator[None]:
    """Take connections without a turn, while a request holds what requests of others wait for."""
    token = _share.set(None)
    try:
        yield
    finally:
        _share.reset(token)
