"""The clock was ahead at a boot, and time synchronisation sets it back: what was recorded meanwhile holds nothing up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from nqrust.client import calls
from nqrust.contract.vms import VmCreate, VmState
from nqrust.manager import operations
from nqrust.manager.clock import now
from nqrust.manager.store.tables import Operation
from nqrust.manager.work.reconciler import Reconciler


async def running(manager: Any) -> Any:
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    return await manager.until("web1", "running")


async def died_while_the_clock_was_ahead(manager: Any, agent: Any, monkeypatch: pytest.MonkeyPatch, **by: float) -> None:
    for one in agent.vms.values():
        one.state = "failed"
    with monkeypatch.context() as patched:
        patched.setattr(operations, "now", lambda: now() + timedelta(**by))
        await Reconciler(manager.core).once()


@pytest.mark.parametrize("days", [1 / 24, 400])
async def test_a_start_runs_at_once(manager: Any, monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    _, agent, _ = await manager.host()
    await running(manager)
    await died_while_the_clock_was_ahead(manager, agent, monkeypatch, days=days)
    await manager.until("web1", "running", timeout=20)


async def test_a_pause_before_a_restart_stays(manager: Any) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager)
    async with manager.core.db.transaction() as session:
        await session.execute(text("UPDATE vms SET restarts = 20"))
    agent.vms[vm.id].state = "failed"
    agent.calls.clear()
    await Reconciler(manager.core).once()
    async with manager.core.db.transaction() as session:
        due = await session.scalar(select(Operation.not_before).where(Operation.state == "pending"))
    assert due is not None and timedelta(minutes=4) < due - now() <= timedelta(minutes=5)
    assert (await manager.admin.send(calls.get_vm("web1"))).state is VmState.starting
    assert "put" not in [verb for verb, _ in agent.calls]


async def test_an_operation_ends_at_the_time_that_its_kind_has(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, agent, _ = await manager.host()
    await running(manager)
    agent.away = True
    with monkeypatch.context() as patched:
        patched.setattr(operations, "now", lambda: now() + timedelta(days=400))
        await manager.admin.send(calls.stop_vm("web1"))
    await manager.until("web1", lambda vm: "again" in vm.error, timeout=20)
    async with manager.core.db.transaction() as session:
        last = await session.scalar(select(Operation.deadline).where(Operation.kind == "stop"))
    assert last is not None and last <= now() + operations.DEADLINES["stop"]


async def test_a_failure_of_that_time_does_not_hold_up_the_next_try(manager: Any) -> None:
    _, agent, _ = await manager.host()
    await running(manager)
    agent.refuse = (422, "not now")
    await manager.admin.send(calls.delete_vm("web1"))
    await manager.until("web1", lambda vm: vm.state is VmState.failed)
    agent.refuse = None
    async with manager.core.db.transaction() as session:
        await session.execute(text("UPDATE operations SET finished_at = now() + interval '1 hour' WHERE state = 'failed'"))
    await Reconciler(manager.core).once()
    await manager.until("web1", "deleted")
