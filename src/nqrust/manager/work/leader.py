"""Elects one process that runs operations and reconciles: the holder of a session-level advisory lock.

PostgreSQL frees the lock when the holder's connection ends for any reason, so there is no lease and no cleanup. The same
connection listens for NOTIFY, so that operations from another process start at once too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import psycopg
import structlog

from nqrust.manager import metrics
from nqrust.manager.core.core import Core
from nqrust.manager.store.database import LEADER_LOCK, OPERATIONS_CHANNEL

log = structlog.get_logger("nqrust.manager.leader")

_RETRY_SECONDS = 2.0
_PROBE_SECONDS = 5.0
_ENDS_SECONDS = 1.0


async def lead(core: Core, duties: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Become leader, run `duties` while leading, and start over after losing the lock. Ends only by cancellation."""
    while True:
        try:
            connection = await core.db.alone("nqrust-manager-leader")
            async with connection:
                cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (LEADER_LOCK,))
                row = await cursor.fetchone()
                if row and row[0]:
                    await _while_leading(core, connection, duties)
        except (psycopg.Error, OSError) as error:
            log.warning("leadership lost or not available", reason=str(error).strip().splitlines()[:1])
        await asyncio.sleep(_RETRY_SECONDS)


async def _while_leading(
    core: Core,
    connection: psycopg.AsyncConnection[tuple[object, ...]],
    duties: Sequence[Callable[[], Awaitable[None]]],
) -> None:
    log.info("leading")
    core.leading = True
    metrics.LEADER.set(1)
    tasks = [asyncio.ensure_future(duty()) for duty in duties]
    listener = asyncio.create_task(_listen(core, connection))
    try:
        done, _ = await asyncio.wait([*tasks, listener], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            error = task.exception() if not task.cancelled() else None
            if error is not None and not isinstance(error, psycopg.Error):
                log.warning("a duty ended", reason=repr(error))
    finally:
        core.leading = False
        metrics.LEADER.set(0)
        left = {*tasks, listener}
        while left:  # again: before Python 3.12 a cancellation is lost if it arrives just as a wait_for ends
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=_ENDS_SECONDS)
        await asyncio.gather(*tasks, listener, return_exceptions=True)


async def _listen(core: Core, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
    """Wake the worker on NOTIFY. Raises psycopg.Error as soon as the connection is gone."""
    await connection.execute(f"LISTEN {OPERATIONS_CHANNEL}")
    while True:
        async for _ in connection.notifies(timeout=_PROBE_SECONDS):
            core.wake.set()
        await connection.execute("SELECT 1")
