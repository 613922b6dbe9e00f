"""Deletes expired data: tokens, events, audit entries, operations and records of deletes.

The clock decides what has expired. At a boot it can be years ahead until time synchronization sets it, and this data does not
come back. So nothing is deleted in the first minutes. For a week after a boot, the clock also has to fit the newest entry of an
earlier boot. Times of this boot, such as heartbeats, prove nothing: they come from the same clock.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.manager import events, operations
from nqrust.manager.access import authentication
from nqrust.manager.clock import now
from nqrust.manager.core.core import Core
from nqrust.manager.errors import DatabaseAway
from nqrust.manager.store.tables import Audit, Event
from nqrust.manager.vms import tombstones

log = structlog.get_logger("nqrust.manager.housekeeping")

FIRST_SECONDS = 900.0
EVERY_SECONDS = 3600.0
GAP = timedelta(days=3)
"""Between the newest entry of an earlier boot and this boot. After a longer one the clock may be wrong."""
BELIEVED_AFTER = timedelta(days=7)
"""Since the boot. By then somebody has set a wrong clock, and a host that was off for a month deletes again."""


def uptime() -> timedelta:
    """Return the time since the host's boot. No change of the clock moves it. clock_gettime(2)."""
    return timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))


async def housekeeping(core: Core) -> None:
    """Delete expired data once an hour, and 15 minutes after the start for the first time. Ends only by cancellation."""
    await asyncio.sleep(FIRST_SECONDS)
    while True:
        try:
            await clean(core)
        except DatabaseAway:
            pass
        await asyncio.sleep(EVERY_SECONDS)


async def clean(core: Core) -> None:
    """Delete expired data, unless the clock may be wrong. Raises DatabaseAway."""
    async with core.db.transaction() as session:
        believed = await _believed(session)
    if not believed:
        return
    await authentication.forget_expired(core)
    async with core.db.transaction() as session:
        await events.prune(session, core.settings.events_days, core.settings.audit_days)
        await operations.prune(session, core.settings.operations_days)
        await tombstones.prune(session)


async def _believed(session: AsyncSession) -> bool:
    """Return whether the clock fits the entries of earlier boots, or the host has run for a week. Warns if they contradict it."""
    up = uptime()
    if up >= BELIEVED_AFTER:
        return True
    booted = now() - up
    found = [at for table in (Audit, Event) if (at := await _newest(session, table, booted)) is not None]
    if any(booted - at <= GAP for at in found):
        return True
    if found:  # a new installation has none
        log.warning("nothing deleted: the clock is days after the newest entry of an earlier boot")
    return False


async def _newest(session: AsyncSession, table: type[Audit | Event], booted: datetime) -> datetime | None:
    """Return the time of the last entry before the boot. The last one, not the latest: an earlier wrong clock leaves late ones."""
    found: datetime | None = await session.scalar(select(table.at).where(table.at < booted).order_by(table.id.desc()).limit(1))
    return found
