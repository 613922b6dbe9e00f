"""A transaction that never ends, such as one of psql, holds the lock of all changes of rights."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import func, select

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.auth import Bootstrap, Role, TokenCreate
from nqrust.manager import app as application
from nqrust.manager.access import rights
from nqrust.manager.access import service as accounts
from nqrust.manager.errors import DatabaseLocked
from nqrust.manager.store.database import RIGHTS_LOCK

ALL_CONNECTIONS = 16


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "LOCK_TIMEOUT", "200ms")


@asynccontextmanager
async def held(manager: Any) -> AsyncIterator[None]:
    """Hold the lock, as another program does, over a connection outside of the pool."""
    async with await manager.core.db.alone("a test") as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (RIGHTS_LOCK,))
        yield


async def test_a_change_that_waits_too_long_is_refused(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many changes as the pool has connections: other requests go on after them."""
    shorten(monkeypatch)
    wanted = [calls.create_token(TokenCreate(name=f"t{n}", role=Role.viewer)) for n in range(ALL_CONNECTIONS)]
    async with held(manager):
        found = await asyncio.wait_for(asyncio.gather(*map(manager.admin.send, wanted), return_exceptions=True), 30)
        names = {token.name for token in (await manager.admin.send(calls.tokens())).items}
    refused = [one for one in found if isinstance(one, Refused)]
    assert {(one.status, one.problem.code) for one in refused} == {(503, "NQR-DB-712")} and len(refused) == ALL_CONNECTIONS
    assert "pg_stat_activity" in refused[0].problem.cure
    assert not names & {f"t{n}" for n in range(ALL_CONNECTIONS)}
    await manager.admin.send(wanted[0])


async def test_the_limit_ends_with_its_transaction(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)
    settings = []
    for _ in range(2):
        async with manager.core.db.transaction() as session:
            settings.append(await session.scalar(select(func.current_setting("lock_timeout"))))
            await rights.one_at_a_time(session)
            settings.append(await session.scalar(select(func.current_setting("lock_timeout"))))
    assert settings == ["0", "200ms"] * 2


async def test_a_start_waits_for_the_lock(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)
    tries = []
    bootstrap = accounts.bootstrap

    async def counted(core: Any, wanted: Bootstrap) -> None:
        tries.append(1)
        await bootstrap(core, wanted)

    monkeypatch.setattr(accounts, "bootstrap", counted)
    async with held(manager):
        starting = asyncio.create_task(application.prepare(manager.core))
        end = time.monotonic() + 20
        while len(tries) < 3:
            await asyncio.sleep(0.02)
            assert not starting.done() and time.monotonic() < end
    await asyncio.wait_for(starting, 30)


async def test_a_start_does_not_wait_for_ever(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)
    object.__setattr__(manager.core.settings, "database_wait_seconds", 0.5)
    async with held(manager):
        with pytest.raises(DatabaseLocked):
            await asyncio.wait_for(application.prepare(manager.core), 30)
