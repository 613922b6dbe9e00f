"""The manager, PostgreSQL or the leader's connection crashes. Each recorded operation runs exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text

from nqrust.client import calls
from nqrust.contract.vms import VmCreate, VmState
from nqrust.manager import app as application
from nqrust.manager.core.core import Core
from nqrust.manager.work import leader, worker


async def wait_until(condition: Any, seconds: float = 20.0) -> None:
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come about")


async def test_next_manager_finishes_operations_of_a_killed_one(manager: Any, start_second: Any) -> None:
    _, agent, _ = await manager.host()
    agent.hold = asyncio.Event()
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    await manager.until("web1", lambda v: ("put", vm.id) in agent.calls)
    second: Core = await start_second()
    await asyncio.sleep(0.3)
    assert not second.leading, "there is one leader"
    # The first one loses its lock as if it had been killed.
    async with manager.core.db.transaction() as session:
        killed = await session.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'nqrust-manager-leader' "
                "AND datname = current_database() AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')"
            )
        )
        assert len(killed.all()) == 1
    await wait_until(lambda: second.leading or manager.core.leading)
    agent.hold.set()
    assert (await manager.until("web1", "running")).state is VmState.running
    assert len(agent.vms) == 1
    assert second.leading != manager.core.leading


async def test_operation_accepted_by_another_manager_starts_at_once(manager: Any, start_second: Any) -> None:
    await manager.host()
    second: Core = await start_second()
    await asyncio.sleep(0.3)
    # Through the process that does not lead; NOTIFY wakes the one that does.
    other = manager.core if second.leading else second
    from nqrust.manager.vms import service as vms

    await vms.create(other, VmCreate(name="web1", image="tiny"), "test", None)
    await manager.until("web1", "running", timeout=5)


async def test_manager_survives_a_postgresql_restart(manager: Any, cluster: Any) -> None:
    _, agent, _ = await manager.host()
    agent.hold = asyncio.Event()
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    await manager.until("web1", lambda v: ("put", vm.id) in agent.calls)
    await asyncio.to_thread(cluster.stop, "immediate")
    try:
        assert (await manager.admin.send(calls.health())).status != "ok"
        agent.hold.set()
        await asyncio.sleep(0.5)
    finally:
        await asyncio.to_thread(cluster.start)
    assert (await manager.until("web1", "running", timeout=20)).error == ""
    assert (await manager.admin.send(calls.health())).status == "ok"


async def test_bootstrap_is_idempotent_and_keeps_a_changed_password(manager: Any) -> None:
    users = (await manager.admin.send(calls.users())).items
    tokens = (await manager.admin.send(calls.tokens())).items
    async with manager.core.db.transaction() as session:
        await session.execute(text("UPDATE users SET password_hash = 'changed'"))
    await application.prepare(manager.core)
    assert (await manager.admin.send(calls.users())).items == users
    assert [token.id for token in (await manager.admin.send(calls.tokens())).items] == [token.id for token in tokens]
    async with manager.core.db.transaction() as session:
        assert await session.scalar(text("SELECT password_hash FROM users")) == "changed"


@pytest.mark.parametrize("steps", range(4))
async def test_worker_stops_despite_a_request_at_that_moment(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Before Python 3.12 a wait_for that ends as it is cancelled gives its result, and the cancellation is lost."""
    core: Any = SimpleNamespace(wake=asyncio.Event(), leading=False)
    duty = worker.Worker(core)

    async def nothing(*_: object) -> None:
        return None

    async def told(**_: object) -> AsyncIterator[None]:
        await asyncio.sleep(60)
        yield None

    for name in ("_take_over", "_dispatch"):
        monkeypatch.setattr(duty, name, nothing)
    connection: Any = SimpleNamespace(execute=nothing, notifies=told)
    leading = asyncio.ensure_future(leader._while_leading(core, connection, [duty.run]))
    await asyncio.sleep(0.05)
    core.wake.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    leading.cancel()
    done, _ = await asyncio.wait([leading], timeout=20)
    assert done and not core.leading
