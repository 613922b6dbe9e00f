"""How long the manager keeps what is over. A real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from sqlalchemy import select, text

from nqrust.client import calls
from nqrust.contract.vms import VmCreate
from nqrust.manager.app import housekeeping
from nqrust.manager.store.tables import Audit, Event, Operation


async def kept(manager: Any, column: Any) -> int:
    async with manager.core.db.transaction() as session:
        return len(list(await session.scalars(select(column))))


async def age(manager: Any, *statements: str) -> None:
    async with manager.core.db.transaction() as session:
        for statement in statements:
            await session.execute(text(statement))
    with contextlib.suppress(asyncio.TimeoutError):  # it prunes at once, then waits an hour
        await asyncio.wait_for(housekeeping(manager.core), 1.0)


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
