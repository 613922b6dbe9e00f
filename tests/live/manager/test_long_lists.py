"""What long lists cost the database. A real PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.dialects import postgresql

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.auth import Role
from nqrust.manager import events
from nqrust.manager.store import database

MANY = """INSERT INTO events (subject_kind, subject_id, subject_name, reason, message, severity)
  SELECT 'vm', 'id-' || name, name, 'Started', 'VM started.', 'info' FROM generate_series(0, 19999) n, LATERAL
    (SELECT CASE WHEN n >= 10000 THEN 'm' WHEN n % 2 = 0 THEN 'a' ELSE 'z' END || n % 6) named (name)"""


async def test_events_of_a_thing_are_read_from_an_index_by_id_and_by_name(manager: Any) -> None:
    """Also where all of them are old."""
    async with manager.core.db.transaction() as session:
        await session.execute(text(MANY))
        await session.execute(text("ANALYZE events"))
        for subject in ("a0", "id-z1", "m3", "nobody"):
            query = events.newest(50, subject, None).compile(
                dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]
                compile_kwargs={"literal_binds": True},
            )
            plan = "\n".join(await session.scalars(text(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {query}")))
            assert "Seq Scan on events" not in plan and "Rows Removed" not in plan, plan


async def test_events_of_a_thing_come_newest_first_and_once(manager: Any) -> None:
    async with manager.core.db.transaction() as session:
        await session.execute(text(MANY))
        events.record(session, ("volume", "a4", "a4"), "VolumeDeleted", "It has one name for both.")
    by_name = (await manager.admin.send(calls.list_events(3, "a4"))).items
    ids = [event.id for event in by_name]
    assert by_name[0].reason == "VolumeDeleted" and ids == sorted(set(ids), reverse=True) and len(ids) == 3
    assert [event.id for event in (await manager.admin.send(calls.list_events(3, "a4", ids[-1]))).items] == ids[:2]
    assert {event.subject_id for event in (await manager.admin.send(calls.list_events(3, "id-m2"))).items} == {"id-m2"}


async def test_a_list_that_takes_too_long_ends(manager: Any, tables_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LIST_SECONDS", 0.2)
    viewer = await manager.role(Role.viewer.value)
    with psycopg.connect(tables_url) as connection:
        connection.execute("LOCK TABLE events, templates, vms")
        for call in (calls.list_events(), calls.list_templates(), calls.list_vms(), calls.list_hosts()):
            with pytest.raises(Refused) as slow:
                await asyncio.wait_for(viewer.send(call), 10)
            assert (slow.value.status, slow.value.code) == (503, "NQR-DB-713")
    assert (await viewer.send(calls.list_vms())).total == 0
