"""Every change and every refused change is in the audit log, whatever keeps the database busy at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import InternalError
from tests.live.manager.test_audit import entries, refused, user

from nqrust.client import calls
from nqrust.contract.auth import Role
from nqrust.contract.templates import TemplateCreate
from nqrust.manager import audit
from nqrust.manager.api.gate import Gate
from nqrust.manager.core.callers import CONNECTIONS
from nqrust.manager.errors import DatabaseAway
from nqrust.manager.store import shares
from nqrust.manager.store.tables import Audit


@asynccontextmanager
async def own_share(manager: Any) -> AsyncIterator[None]:
    """Take all connections of each sender at work."""
    taken = [each for each in manager.core.callers._connections.values() for _ in range(CONNECTIONS)]
    for each in taken:
        await each.acquire()
    try:
        yield
    finally:
        for each in taken:
            each.release()


@asynccontextmanager
async def whole_pool(manager: Any) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        with shares.apart():
            while manager.core.db.engine.pool.checkedout() < 16:
                await (await stack.enter_async_context(manager.core.db.transaction())).connection()
        yield


@pytest.mark.parametrize("busy", [own_share, whole_pool])
async def test_a_change_is_recorded_when_no_connection_is_free_after_it(
    manager: Any, monkeypatch: pytest.MonkeyPatch, busy: Any
) -> None:
    write = audit.write

    async def while_busy(*given: Any, **named: Any) -> None:
        async with busy(manager):
            await write(*given, **named)

    monkeypatch.setattr(shares, "SECONDS", 0.2)
    monkeypatch.setattr(audit, "write", while_busy)
    await manager.admin.send(calls.create_template(TemplateCreate(name="small", image="tiny")))
    assert [(e.target, e.status) for e in await entries(manager, action="create_template")] == [("small", 201)]


async def test_a_change_that_gets_no_connection_is_recorded_as_refused(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sender takes all of its connections until the answer is on the way."""
    _, olga = await user(manager, "olga", Role.operator)
    identify_again, stack = Gate._identify_again, AsyncExitStack()

    async def then_busy(*given: Any) -> None:
        await identify_again(*given)
        await stack.enter_async_context(own_share(manager))

    monkeypatch.setattr(shares, "SECONDS", 0.2)
    monkeypatch.setattr(Gate, "_identify_again", then_busy)
    async with stack:
        answer = await refused(olga.send(calls.create_template(TemplateCreate(name="small", image="tiny"))))
    monkeypatch.setattr(Gate, "_identify_again", identify_again)
    assert answer.status == 503
    told = [(e.actor, e.status, e.code) for e in await entries(manager, action="create_template")]
    assert told == [("olga", 503, answer.problem.code)]


async def test_entries_wait_for_a_database_that_goes_away(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def away() -> AsyncIterator[Any]:
        raise DatabaseAway()
        yield

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(manager.core.db, "entries", away)
        for name in ("first", "second"):
            await manager.admin.send(calls.create_template(TemplateCreate(name=name, image="tiny")))
    assert await entries(manager, action="create_template") == []
    await manager.admin.send(calls.create_template(TemplateCreate(name="third", image="tiny")))
    told = await entries(manager, action="create_template")
    assert [e.target for e in reversed(told)] == ["first", "second", "third"] and not manager.core.late
    assert [e.at for e in told] == sorted((e.at for e in told), reverse=True)


async def test_entries_wait_for_a_database_that_only_answers_questions(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a standby after a failover."""
    state, takes = {"request_id": "r1", "source": "192.0.2.1"}, manager.core.db.entries

    @asynccontextmanager
    async def standby() -> AsyncIterator[Any]:
        async with takes() as session:
            await session.execute(text("SET TRANSACTION READ ONLY"))
            yield session

    async def record(path: str) -> None:
        await audit.write(manager.core, state, actor="root", method="POST", path=path, status=201, action="", target="")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(manager.core.db, "entries", standby)
        for path in ("/1", "/2"):
            with pytest.raises(InternalError, match="read-only"):
                await record(path)
    await record("/3")
    assert [e.path for e in await entries(manager, request_id="r1")] == ["/3", "/2", "/1"] and not manager.core.late


async def test_text_that_the_database_cannot_store_costs_no_entry(manager: Any) -> None:
    state = {"request_id": "r1", "source": "192.0.2.1"}
    what = {"method": "POST", "path": "/v1/\ud800", "status": 401, "action": "", "target": "we\0b1"}
    await audit.write(manager.core, state, actor="mal\ud800lory", **what)
    (entry,) = await entries(manager, request_id="r1")
    assert (entry.actor, entry.path, entry.target) == ("mal?lory", "/v1/?", "web1")


async def test_an_export_goes_past_no_entry_that_is_being_written(manager: Any) -> None:
    """Two entries at once: the one with the larger id is complete first."""

    def one(action: str) -> Audit:
        return Audit(actor="a", method="POST", path="/x", status=200, request_id="r", source="s", action=action)

    async with manager.core.db.entries() as slow:
        slow.add(one("slow"))
        await slow.flush()
        async with manager.core.db.entries() as quick:
            quick.add(one("quick"))
        export = asyncio.create_task(manager.admin.send(calls.audit(1000, 0)))
        await asyncio.sleep(0.3)
    seen, after = [], 0
    for page in ((await export).items, None):
        page = page if page is not None else (await manager.admin.send(calls.audit(1000, after))).items
        seen += [entry.action for entry in page if entry.request_id == "r"]
        after = page[-1].id if page else after
    assert seen == ["slow", "quick"]


async def test_an_entry_that_never_ends_keeps_no_other_waiting(manager: Any) -> None:
    async with manager.core.db.entries():
        answer = await refused(manager.admin.send(calls.audit(1000, 0)))
        assert (answer.status, answer.problem.code) == (503, "NQR-DB-712")
        async with manager.core.db.entries() as other:
            await other.execute(text("SELECT 1"))
    assert (await manager.admin.send(calls.audit(1000, 0))).items == []
