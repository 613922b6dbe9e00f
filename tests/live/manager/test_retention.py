"""How long the manager keeps what is over. A real PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import func, select, text
from structlog.testing import capture_logs

from nqrust.client import calls
from nqrust.contract.auth import Role, TokenCreate
from nqrust.contract.vms import VmCreate
from nqrust.manager import clock, events, operations
from nqrust.manager.access import authentication
from nqrust.manager.store.tables import Audit, Event, Operation, Token, Tombstone
from nqrust.manager.vms import tombstones
from nqrust.manager.work import housekeeping


@pytest.fixture(autouse=True)
def up(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets for how long the host is up. Ten days at first."""

    def since(**ago: float) -> None:
        monkeypatch.setattr(housekeeping, "uptime", lambda: timedelta(**ago))

    since(days=10)
    return since


async def kept(manager: Any, column: Any) -> int:
    async with manager.core.db.transaction() as session:
        return len(list(await session.scalars(select(column))))


async def age(manager: Any, *statements: str) -> None:
    async with manager.core.db.transaction() as session:
        for statement in statements:
            await session.execute(text(statement))
    await housekeeping.clean(manager.core)


async def test_finished_operations_are_kept_for_30_days_and_open_ones_for_good(manager: Any) -> None:
    await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    await manager.until("web1", "running")
    await age(manager, "UPDATE operations SET finished_at = finished_at - interval '29 days'")
    assert await kept(manager, Operation.id) == 1
    await age(manager, "UPDATE operations SET state = 'running', finished_at = NULL, created_at = now() - interval '1 year'")
    assert await kept(manager, Operation.id) == 1, "open"
    await age(manager, "UPDATE operations SET state = 'done', finished_at = now() - interval '31 days'")
    assert await kept(manager, Operation.id) == 0


async def test_retention_is_set(manager: Any) -> None:
    await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    await manager.until("web1", "running")
    days = {"events_days": 5, "audit_days": 60, "operations_days": 90}
    manager.core.settings = manager.core.settings.__class__(**{**manager.core.settings.__dict__, **days})
    await age(
        manager,
        "UPDATE events SET at = now() - interval '4 days'",
        "UPDATE audit SET at = now() - interval '59 days'",
        "UPDATE operations SET state = 'done', finished_at = now() - interval '89 days'",
    )
    assert all([await kept(manager, one.id) for one in (Event, Audit, Operation)])
    await age(
        manager,
        "UPDATE events SET at = now() - interval '6 days'",
        "UPDATE audit SET at = now() - interval '61 days'",
        "UPDATE operations SET finished_at = now() - interval '91 days'",
    )
    assert [await kept(manager, one.id) for one in (Event, Audit, Operation)] == [0, 0, 0]


async def test_events_are_kept_for_30_days_and_the_audit_log_for_a_year(manager: Any) -> None:
    await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    await manager.until("web1", "running")
    await age(manager, "UPDATE events SET at = now() - interval '29 days'")
    await age(manager, "UPDATE audit SET at = now() - interval '364 days'")
    assert await kept(manager, Event.id) and await kept(manager, Audit.id)
    await age(manager, "UPDATE events SET at = now() - interval '31 days'")
    await age(manager, "UPDATE audit SET at = now() - interval '366 days'")
    assert (await kept(manager, Event.id), await kept(manager, Audit.id)) == (0, 0)


MODULES = (housekeeping, events, operations, tombstones, authentication)


async def counts(manager: Any) -> dict[str, int]:
    async with manager.core.db.transaction() as session:
        tables = (Audit, Event, Operation, Token, Tombstone)
        return {one.__tablename__: await session.scalar(select(func.count()).select_from(one)) or 0 for one in tables}


async def used(manager: Any) -> dict[str, int]:
    """Have something of each kind. Return how much."""
    await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    await manager.until("web1", "running")
    await manager.admin.send(calls.delete_vm("web1"))
    await manager.until("web1", "deleted")
    await manager.admin.send(calls.create_token(TokenCreate(name="ci", role=Role.operator)))
    before = await counts(manager)
    assert all(before.values())
    return before


def ahead(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    def shown() -> datetime:
        return clock.now() + timedelta(days=days)

    for module in MODULES:
        monkeypatch.setattr(module, "now", shown)


async def test_a_clock_that_is_years_ahead_at_a_boot_deletes_nothing(
    manager: Any, up: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await used(manager)
    ahead(monkeypatch, 400)
    for hours in (0.1, 1, 24 * 6):
        up(hours=hours)
        await housekeeping.clean(manager.core)
        assert await counts(manager) == before
    up(days=8)
    await housekeeping.clean(manager.core)
    assert (await counts(manager))["audit"] == 0, "by then somebody has set the clock"


async def test_only_a_host_with_entries_of_an_earlier_boot_is_warned(manager: Any, up: Any) -> None:
    await used(manager)
    up(hours=1)
    with capture_logs() as logs:
        await housekeeping.clean(manager.core)
    assert logs == [], "a new installation"
    with capture_logs() as logs:
        await age(manager, "UPDATE events SET at = now() - interval '9 days' WHERE id = (SELECT min(id) FROM events)")
    assert [log["event"] for log in logs] == ["nothing deleted: the clock is days after the newest entry of an earlier boot"]


async def test_entries_of_an_earlier_wrong_clock_prove_nothing(manager: Any, up: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await used(manager)
    async with manager.core.db.transaction() as session:
        for table in ("audit", "events"):
            first = f"(SELECT min(id) FROM {table})"
            await session.execute(text(f"UPDATE {table} SET at = now() + interval '399 days' WHERE id = {first}"))
    before = await counts(manager)
    ahead(monkeypatch, 400)
    up(hours=1)
    await housekeeping.clean(manager.core)
    assert await counts(manager) == before


async def test_a_host_that_is_off_every_night_deletes_expired_data(manager: Any, up: Any) -> None:
    await used(manager)
    up(hours=1)
    await age(
        manager,
        "UPDATE events SET at = now() - interval '31 days' WHERE id < (SELECT max(id) FROM events)",
        "UPDATE events SET at = now() - interval '10 hours' WHERE id = (SELECT max(id) FROM events)",
        "UPDATE operations SET state = 'done', finished_at = now() - interval '31 days'",
    )
    found = await counts(manager)
    assert (found["events"], found["operations"]) == (1, 0)


async def test_nothing_is_deleted_right_after_the_start(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    class Over(Exception):
        pass

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise Over

    async def clean(core: Any) -> None:
        waits.append(0)

    monkeypatch.setattr(housekeeping, "clean", clean)
    monkeypatch.setattr(housekeeping, "asyncio", SimpleNamespace(sleep=wait))
    with pytest.raises(Over):
        await housekeeping.housekeeping(manager.core)
    assert waits == [900, 0, 3600]
