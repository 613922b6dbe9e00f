"""One host that somebody took over: what it reports, and what it does not answer, leaves the other hosts alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select, update

from nqrust.client import calls
from nqrust.contract.names import CANARY_PREFIX, CANARY_TAG
from nqrust.contract.vms import StopRequest, VmCreate
from nqrust.manager import operations
from nqrust.manager.clock import now
from nqrust.manager.store.arrays import among
from nqrust.manager.store.database import Database
from nqrust.manager.store.tables import Event, Operation, Vm, Volume
from nqrust.manager.unknown_vms import service as unknown_vms
from nqrust.manager.vms import tombstones
from nqrust.manager.volumes import service as volumes
from nqrust.manager.work import turns, worker
from nqrust.manager.work.reconciler import Reconciler


@pytest.fixture()
def reconciler(manager: Any) -> Reconciler:
    return Reconciler(manager.core)


async def _never(*_: Any) -> None:
    await asyncio.sleep(3600)


async def test_host_that_never_answers_does_not_stop_the_reconciler(
    manager: Any, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PASS_SECONDS", 0.5)
    _, stolen, _ = await manager.host("h1")
    for number in range(100):
        stolen.alive(f"c{number}", f"{CANARY_PREFIX}1-{number}", started_ago=3600).tags = [CANARY_TAG]
    stolen.delete_vm = _never
    await asyncio.wait_for(reconciler.once(), 30)
    _, honest, _ = await manager.host("h2", first="10.0.0.20")
    await manager.admin.send(calls.create_vm(VmCreate(name="web2", image="tiny", host="h2")))
    vm = await manager.until("web2", "running")
    honest.vms[vm.id].state = "failed"
    await asyncio.wait_for(reconciler.once(), 30)
    await manager.until("web2", "running")
    assert len(await _canaries_removed(manager)) == 1
    await reconciler._turns.close()


async def test_host_that_never_answers_has_some_of_the_workers_places(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "AT_ONCE", 4)
    monkeypatch.setattr(worker, "AT_ONE_HOST", 2)
    _, stolen, _ = await manager.host("h1")
    await manager.host("h2", first="10.0.0.20")
    for name, host in [*((f"web{number}", "h1") for number in range(5)), ("other", "h2")]:
        await manager.admin.send(calls.create_vm(VmCreate(name=name, image="tiny", host=host)))
        await manager.until(name, "running")
    asked = []

    async def never(vm_id: str, *_: Any) -> None:
        asked.append(vm_id)
        await asyncio.sleep(3600)

    stolen.stop_vm = never
    for name in (*(f"web{number}" for number in range(5)), "other"):
        await manager.admin.send(calls.stop_vm(name, StopRequest()))
    await manager.until("other", "stopped")
    assert len(asked) == 2


class Places(worker.Worker):
    """Its operations begin and never end. `begun`: their VMs."""

    def __init__(self, core: Any) -> None:
        super().__init__(core)
        self.begun: list[str] = []

    async def _one(self, operation_id: int, vm_id: str) -> None:
        self.begun.append(vm_id)
        await asyncio.sleep(3600)

    def end(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    async def dispatch(self) -> list[str]:
        await self._dispatch()
        await asyncio.sleep(0)
        return self.begun


@pytest.fixture()
async def database(tables_url: str) -> AsyncIterator[Database]:
    found = Database(tables_url.replace("postgresql://", "postgresql+psycopg://"))
    yield found
    await found.close()


async def _due(database: Database, vms: list[str], seconds_ago: int) -> None:
    due, until = now() - timedelta(seconds=seconds_ago), now() + timedelta(hours=1)
    async with database.transaction() as session:
        for vm in vms:
            session.add(Operation(vm_id=vm, kind="start", generation=1, params={}, not_before=due, deadline=until))
            await session.flush()


async def test_worker_keeps_places_for_other_hosts(database: Database) -> None:
    await _due(database, [f"v{number}" for number in range(worker.AT_ONCE)], 60)
    places = Places(SimpleNamespace(db=database))
    for _ in range(2):
        assert len(await places.dispatch()) == worker.WITHOUT_HOST
    assert (worker.AT_ONCE, worker.AT_ONE_HOST, worker.WITHOUT_HOST) == (32, 8, 16)
    places.end()


async def test_retry_waits_behind_operations_that_were_due_before(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "AT_ONCE", 1)
    await _due(database, ["tried-before"], 5)
    await _due(database, ["waits"], 60)
    places = Places(SimpleNamespace(db=database))
    assert await places.dispatch() == ["waits"]
    places.end()


async def test_any_number_of_reported_ids_is_one_question_to_the_database(database: Database) -> None:
    many = {f"id{number}" for number in range(70_000)}
    async with database.transaction() as session:
        await tombstones.record(session, "id7", "web", None, "x")
        assert not (await session.scalars(select(Vm.id).where(among(Vm.id, many)))).all()
        assert not (await session.scalars(select(Volume.name).where(among(Volume.name, many)))).all()
    assert await tombstones.of(SimpleNamespace(db=database), many) == {"id7"}


async def test_host_that_reports_other_things_each_time_fills_no_tables(
    manager: Any, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (unknown_vms.MOST, volumes.MOST) == (1000, 2000)
    monkeypatch.setattr(unknown_vms, "MOST", 30)
    monkeypatch.setattr(volumes, "MOST", 10)
    _, stolen, _ = await manager.host("h1")
    _, honest, _ = await manager.host("h2", first="10.0.0.20")
    honest.alive("kept", "kept")
    for turn in range(3):
        stolen.vms.clear()
        stolen.volumes = {f"{turn}-{number}": 1 for number in range(40)}
        for number in range(40):
            stolen.alive(f"v{turn}-{number}", "x" * 9000)
        await reconciler.once()
        unknown = (await manager.admin.send(calls.list_unknown_vms())).items
        assert sorted(Counter(vm.host for vm in unknown).items()) == [("h1", 30), ("h2", 1)]
        assert len((await manager.admin.send(calls.list_volumes())).items) <= 10
    assert len([event for event in await _events(manager, "h1") if event.reason == "UnknownVm"]) == 20
    assert len([event for event in await _events(manager, "h2") if event.reason == "UnknownVm"]) == 1


async def test_host_that_reports_another_state_each_time_writes_few_events_and_operations(
    manager: Any, reconciler: Reconciler
) -> None:
    _, stolen, _ = await manager.host("h1")
    names = ("seen", "stopped", "died", "behind")
    for name in names:
        await manager.admin.send(calls.create_vm(VmCreate(name=name, image="tiny", host="h1")))
        await manager.until(name, "running")
    await manager.admin.send(calls.stop_vm("stopped", StopRequest()))
    await manager.until("stopped", "stopped")
    found = {vm.name: vm for vm in stolen.vms.values()}
    for turn in range(40):
        found["seen"].state, found["seen"].exit_reason = ("running", "") if turn % 2 else ("paused", f"no room {turn}")
        found["stopped"].state = "running"
        found["died"].state, found["died"].started_at = "failed", None
        found["behind"].generation += 1
        stolen.specs[found["behind"].id].generation = found["behind"].generation
        await reconciler.once()
        await _idle(manager)
        # Its start came an hour ago, so that the next end is no reason to wait.
        found["died"] = stolen.alive(found["died"].id, "died", started_ago=3600)
        found["died"].generation = stolen.specs[found["died"].id].generation
        async with manager.core.db.transaction() as session:
            await session.execute(update(Vm).where(Vm.name == "died").values(started_at=found["died"].started_at))
    async with manager.core.db.transaction() as session:
        written = Counter((await session.scalars(select(Event.subject_name).where(Event.subject_name.in_(names)))).all())
        begun = Counter((await session.scalars(select(Operation.vm_id))).all())
    assert max(written.values()) <= 50, written
    assert max(begun.values()) <= 25, begun
    assert (await manager.admin.send(calls.get_vm("seen"))).state == "running"  # it is seen, whether or not there is an event


async def _idle(manager: Any) -> None:
    """Wait until no operation is open."""
    while True:
        async with manager.core.db.transaction() as session:
            if await session.scalar(select(Operation.id).where(Operation.state.in_(operations.OPEN)).limit(1)) is None:
                return
        await asyncio.sleep(0.02)


async def test_unknown_vm_keeps_its_row_when_its_host_has_more_than_fit(
    manager: Any, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown_vms, "MOST", 2)
    _, agent, _ = await manager.host("h1")
    agent.alive("first", "first")
    await reconciler.once()
    agent.vms = {}
    for vm_id in ("a", "b", "c", "first"):
        agent.alive(vm_id, vm_id)
    await reconciler.once()
    found = [vm.id for vm in (await manager.admin.send(calls.list_unknown_vms())).items]
    assert len(found) == 2 and "first" in found


@pytest.mark.parametrize("reported", [2**30 + 1, 2**31 - 1])
@pytest.mark.parametrize("with_record", [True, False])
async def test_vm_whose_host_makes_up_a_generation_can_be_changed_and_deleted(
    manager: Any, reconciler: Reconciler, reported: int, with_record: bool
) -> None:
    _, stolen, _ = await manager.host("h1")
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", host="h1")))
    vm = await manager.until("web1", "running")
    stolen.vms[vm.id].generation = reported
    if with_record:
        stolen.specs[vm.id].generation = reported
    else:
        del stolen.specs[vm.id]
    await reconciler.once()
    assert (await manager.admin.send(calls.get_vm("web1"))).generation == vm.generation
    await manager.admin.send(calls.delete_vm("web1"))
    for _ in range(200):
        if not (await manager.admin.send(calls.list_vms())).total:
            return
        await asyncio.sleep(0.05)
    pytest.fail("the VM is still there")


async def test_record_with_a_made_up_generation_leaves_room_for_changes(manager: Any, reconciler: Reconciler) -> None:
    _, stolen, _ = await manager.host("h1")
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", host="h1")))
    vm = await manager.until("web1", "running")
    stolen.vms[vm.id].generation = vm.generation + 1
    stolen.specs[vm.id].generation, stolen.specs[vm.id].tags = 2**31 - 1, ["x" * 9000] * 32
    await reconciler.once()
    found = await manager.admin.send(calls.get_vm("web1"))
    assert found.generation == 2**30
    assert [len(tag) for tag in found.tags] == [255] * 32
    await manager.admin.send(calls.delete_vm("web1"))
    assert found.id not in {vm.id for vm in (await manager.admin.send(calls.list_vms())).items if vm.state != "deleting"}


async def _events(manager: Any, host: str) -> list[Any]:
    return list((await manager.admin.send(calls.list_events(subject=host, limit=200))).items)


async def _canaries_removed(manager: Any) -> list[Any]:
    events = (await manager.admin.send(calls.list_events(subject="h1"))).items
    return [event for event in events if event.reason == "CanaryRemoved"]
