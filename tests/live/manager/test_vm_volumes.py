"""Volumes attach to and detach from stopped VMs. The manager records a change first and withdraws it on failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from nqrust.client import calls as do
from nqrust.client.errors import Refused
from nqrust.contract.vms import SnapshotCreate, VmCreate, VolumeCreate
from nqrust.manager import operations
from nqrust.manager.clock import now
from nqrust.manager.store.tables import Operation, Vm
from nqrust.manager.work.reconciler import Reconciler

NEW = VolumeCreate(size_mib=64)
KEPT = VolumeCreate(size_mib=64, keep=True)


async def stopped(manager: Any, name: str = "db1", **more: Any) -> Any:
    vm = await manager.admin.send(do.create_vm(VmCreate(name=name, image="tiny", start=False, **more)))
    return await settled(manager, vm.id)


async def settled(manager: Any, vm_id: str) -> Any:
    """The VM, when nothing is open any more."""
    for _ in range(500):
        async with manager.core.db.transaction() as session:
            if not await operations.has_open(session, vm_id):
                return await manager.admin.send(do.get_vm(vm_id))
        await asyncio.sleep(0.02)
    raise AssertionError("an operation stays open")


def shown(vm: Any) -> list[tuple[Any, ...]]:
    return [(v.device, v.size_mib, v.keep, v.name, v.change) for v in vm.volumes]


async def refused(call: Any) -> tuple[int, str, str]:
    with pytest.raises(Refused) as error:
        await call
    assert error.value.cure
    return error.value.status, error.value.code, str(error.value)


@asynccontextmanager
async def held(agent: Any) -> AsyncIterator[None]:
    """The agent gets no further than having been asked."""
    agent.hold = asyncio.Event()
    yield
    agent.hold.set()
    agent.hold = None


async def overdue(manager: Any, vm_id: str) -> None:
    """The deadline of what is open is over."""
    async with manager.core.db.transaction() as session:
        for operation in await operations_of(session, vm_id):
            if operation.state in operations.OPEN:
                operation.deadline = operation.not_before = now() - timedelta(seconds=1)
    manager.core.wake.set()


async def operations_of(session: Any, vm_id: str) -> list[Operation]:
    from sqlalchemy import select

    return list(await session.scalars(select(Operation).where(Operation.vm_id == vm_id).order_by(Operation.id)))


async def test_new_volume_is_attached_detached_and_kept(manager: Any) -> None:
    _, agent, _ = await manager.host()
    vm = await stopped(manager)
    asked = await manager.admin.send(do.attach_volume("db1", KEPT))
    assert shown(asked) == [("vdb", 64, True, None, "attaching")]
    after = await settled(manager, vm.id)
    assert shown(after) == [("vdb", 64, True, None, None)] and after.state.value == "stopped" and not after.error
    told = agent.specs[vm.id]
    assert (told.attached, told.detached, told.run) == (["vdb"], [], False)
    assert [(v.device, v.change, v.data) for v in told.volumes] == [("vdb", None, None)]
    kept = after.volumes[0].kept_as
    assert kept.startswith(f"db1-vdb-{vm.id}-")

    assert shown(await manager.admin.send(do.detach_volume("db1", "vdb"))) == [("vdb", 64, True, None, "detaching")]
    assert shown(await settled(manager, vm.id)) == []
    told = agent.specs[vm.id]
    assert (told.attached, told.volumes, [(v.device, v.data, v.kept_as) for v in told.detached]) == (
        [],
        [],
        [("vdb", "keep", kept)],
    )
    (row,) = (await manager.admin.send(do.list_volumes())).items
    assert (row.name, row.size_mib, row.host, row.vm) == (kept, 64, "h1", None)
    said = {event.reason: event.message for event in (await manager.admin.send(do.list_events(subject="db1"))).items}
    assert kept in said["VolumeDetached"] and "as vdb" in said["VolumeAttached"]

    await manager.admin.send(do.attach_volume("db1", VolumeCreate(name="db1-vdb")))
    assert shown(await settled(manager, vm.id)) == [("vdb", 64, True, kept, None)]
    assert (await manager.admin.send(do.list_volumes())).items[0].vm == "db1"
    await manager.admin.send(do.start_vm("db1"))
    await manager.until("db1", "running")
    assert (agent.specs[vm.id].attached, agent.specs[vm.id].detached) == ([], [])


async def test_attached_volumes_keep_their_device_names(manager: Any) -> None:
    await manager.host()
    vm = await stopped(manager, volumes=[KEPT, NEW, KEPT])
    await manager.admin.send(do.detach_volume("db1", "vdb"))
    assert [v.device for v in (await settled(manager, vm.id)).volumes] == ["vdc", "vdd"]
    await manager.admin.send(do.attach_volume("db1", KEPT))
    after = await settled(manager, vm.id)
    assert [v.device for v in after.volumes] == ["vdb", "vdc", "vdd"]
    assert after.volumes[0].kept_name("db1", vm.id) != f"db1-vdb-{vm.id}", "that is what the first one is called"
    await manager.admin.send(do.delete_vm("db1"))
    await manager.until("db1", "deleted")
    names = [v.name for v in (await manager.admin.send(do.list_volumes())).items]
    assert names == sorted([f"db1-vdb-{vm.id}", f"db1-vdd-{vm.id}", after.volumes[0].kept_as])


async def test_detach_destroys_a_volume_only_when_told_to(manager: Any) -> None:
    _, agent, _ = await manager.host()
    agent.volumes["mine"] = 8
    await Reconciler(manager.core).once()
    vm = await stopped(manager, volumes=[NEW, NEW, VolumeCreate(name="mine"), KEPT])
    status, code, _ = await refused(manager.admin.send(do.detach_volume("db1", "vdb")))
    assert (status, code) == (409, "NQR-API-130")
    for device, data in (("vdb", "delete"), ("vdc", "keep"), ("vdd", "delete"), ("vde", "delete")):
        await manager.admin.send(do.detach_volume("db1", device, data=data))
        assert device not in [v.device for v in (await settled(manager, vm.id)).volumes]
        assert [v.data for v in agent.specs[vm.id].detached] == [data]
    assert [v.name for v in (await manager.admin.send(do.list_volumes())).items] == [f"db1-vdc-{vm.id}"]
    assert (await refused(manager.admin.send(do.detach_volume("db1", "vdb"))))[:2] == (404, "NQR-API-103")


@pytest.mark.parametrize("state", ["running", "paused"])
async def test_running_vm_refuses_volume_changes(manager: Any, state: str) -> None:
    _, agent, _ = await manager.host()
    vm = await manager.admin.send(do.create_vm(VmCreate(name="db1", image="tiny", volumes=[KEPT])))
    await manager.until("db1", "running")
    if state == "paused":
        await manager.admin.send(do.pause_vm("db1"))
        await manager.until("db1", "paused")
    await settled(manager, vm.id)
    for call in (manager.admin.send(do.attach_volume("db1", NEW)), manager.admin.send(do.detach_volume("db1", "vdb"))):
        status, code, said = await refused(call)
        assert (status, code) == (409, "NQR-API-127") and state in said
    assert [v.device for v in (await manager.admin.send(do.get_vm("db1"))).volumes] == ["vdb"]
    agent.refuse = None


async def test_volume_change_is_refused_during_operations_with_snapshots_or_above_the_limit(manager: Any) -> None:
    _, agent, _ = await manager.host()
    vm = await stopped(manager, volumes=[NEW] * 8)
    assert (await refused(manager.admin.send(do.attach_volume("db1", NEW))))[:2] == (409, "NQR-API-129")
    async with held(agent):
        await manager.admin.send(do.start_vm("db1"))
        assert (await refused(manager.admin.send(do.detach_volume("db1", "vdb", data="delete"))))[:2] == (409, "NQR-API-127")
    await manager.until("db1", "running")
    await manager.admin.send(do.stop_vm("db1"))
    await manager.until("db1", "stopped")
    await settled(manager, vm.id)
    async with held(agent):
        await manager.admin.send(do.detach_volume("db1", "vdi", data="delete"))
        assert (await refused(manager.admin.send(do.detach_volume("db1", "vdh", data="delete"))))[:2] == (409, "NQR-API-111")
        assert (await refused(manager.admin.send(do.create_snapshot("db1", "s1"))))[:2] == (409, "NQR-API-111")
    await settled(manager, vm.id)
    await manager.admin.send(do.create_snapshot("db1", SnapshotCreate(name="s1").name))
    await settled(manager, vm.id)
    for call in (
        manager.admin.send(do.attach_volume("db1", NEW)),
        manager.admin.send(do.detach_volume("db1", "vdb", data="delete")),
    ):
        status, code, said = await refused(call)
        assert (status, code) == (409, "NQR-API-128") and "1 snapshot " in said
    await manager.admin.send(do.delete_snapshot("db1", "s1"))
    await settled(manager, vm.id)
    await manager.admin.send(do.attach_volume("db1", NEW))
    await settled(manager, vm.id)


async def test_kept_volume_attaches_only_on_its_host_and_to_one_vm(manager: Any) -> None:
    _, one, _ = await manager.host("h1")
    vm = await stopped(manager, host="h1")
    _, two, _ = await manager.host("h2", first="10.0.0.100")
    one.volumes["here"], two.volumes["there"] = 8, 8
    await Reconciler(manager.core).once()
    status, code, said = await refused(manager.admin.send(do.attach_volume("db1", VolumeCreate(name="there"))))
    assert (status, code) == (409, "NQR-API-124") and "the VM is on host h1" in said
    other = await stopped(manager, "db2", host="h1")
    asked = [manager.admin.send(do.attach_volume(name, VolumeCreate(name="here"))) for name in ("db1", "db2")]
    outcome = await asyncio.gather(*asked, return_exceptions=True)
    (lost,) = [error for error in outcome if isinstance(error, Exception)]
    assert isinstance(lost, Refused) and (lost.status, lost.code) == (409, "NQR-API-123")
    await settled(manager, vm.id)
    await settled(manager, other.id)
    assert (await manager.admin.send(do.list_volumes("h1"))).items[0].vm in ("db1", "db2")
    assert (await refused(manager.admin.send(do.delete_volume("here"))))[1] == "NQR-API-123"
    assert (await refused(manager.admin.send(do.attach_volume("db1", VolumeCreate(size_mib=10**7)))))[:2] == (409, "NQR-API-131")


async def test_concurrent_attaches_get_different_devices_or_a_refusal(manager: Any) -> None:
    await manager.host()
    vm = await stopped(manager)
    outcome = await asyncio.gather(*(manager.admin.send(do.attach_volume("db1", NEW)) for _ in range(3)), return_exceptions=True)
    given = [one for one in outcome if not isinstance(one, Exception)]
    assert given and all(one.code == "NQR-API-111" for one in outcome if isinstance(one, Refused))
    after = await settled(manager, vm.id)
    assert [v.device for v in after.volumes] == ["vdb", "vdc", "vdd"][: len(given)]


async def test_unplaced_vm_goes_to_the_host_of_its_volume(manager: Any) -> None:
    await manager.admin.send(do.create_vm(VmCreate(name="db1", image="tiny", memory_mib=1_000_000, start=False)))
    _, agent, _ = await manager.host("h1")
    agent.volumes["mine"] = 8
    await Reconciler(manager.core).once()
    vm = await manager.until("db1", lambda seen: seen.state.value == "failed")
    assert vm.host is None
    await manager.admin.send(do.attach_volume("db1", VolumeCreate(name="mine")))
    after = await manager.admin.send(do.attach_volume("db1", NEW))
    assert shown(after) == [("vdb", 8, True, "mine", None), ("vdc", 64, False, None, None)]
    async with manager.core.db.transaction() as session:
        row = await session.get(Vm, vm.id)
        assert row is not None and row.wanted_host == "h1"
    await manager.admin.send(do.detach_volume("db1", "vdc"))
    assert shown(await manager.admin.send(do.detach_volume("db1", "vdb"))) == []
    assert (await manager.admin.send(do.list_volumes())).items[0].vm is None
    assert ("put", vm.id) not in agent.calls


async def test_attach_to_an_absent_host_is_withdrawn_when_it_returns(manager: Any) -> None:
    _, agent, _ = await manager.host()
    agent.volumes["mine"] = 8
    await Reconciler(manager.core).once()
    vm = await stopped(manager, volumes=[NEW])
    agent.away = True
    await manager.admin.send(do.attach_volume("db1", VolumeCreate(name="mine")))
    await manager.until("db1", lambda v: "try again" in v.error)
    await overdue(manager, vm.id)
    failed = await manager.until("db1", lambda v: [one.change for one in v.volumes] == [None, "withdrawing"])
    assert failed.state.value == "stopped" and "does not answer" in failed.error
    assert (await manager.admin.send(do.list_volumes())).items[0].vm == "db1", "nobody knows where it is just now"
    agent.away = False
    await overdue(manager, vm.id)
    after = await settled(manager, vm.id)
    assert [v.device for v in after.volumes] == ["vdb"]
    assert [(v.device, v.name, v.data) for v in agent.specs[vm.id].detached] == [("vdc", "mine", "keep")]
    assert (await manager.admin.send(do.list_volumes())).items[0].vm is None
    events = [event.reason for event in (await manager.admin.send(do.list_events(subject="db1"))).items]
    assert "OperationFailed" in events and "VolumeAttached" not in events


async def test_reconciler_completes_abandoned_volume_changes(manager: Any) -> None:
    _, agent, _ = await manager.host()
    vm = await stopped(manager)
    agent.refuse = (422, "The disk is full")
    await manager.admin.send(do.attach_volume("db1", NEW))
    after = await settled(manager, vm.id)
    assert "disk is full" in after.error and [v.change for v in after.volumes] == ["withdrawing"]
    agent.refuse = None
    assert not [action for action in await Reconciler(manager.core).once() if getattr(action, "kind", "") == "update"]
    async with manager.core.db.transaction() as session:
        for operation in await operations_of(session, vm.id):
            operation.finished_at = now() - timedelta(minutes=2)
    await Reconciler(manager.core).once()
    after = await settled(manager, vm.id)
    assert shown(after) == [] and [(v.device, v.data) for v in agent.specs[vm.id].detached] == [("vdb", "delete")]
    assert "disk is full" in after.error, "it still says why it has none"
    assert (await manager.admin.send(do.list_volumes())).total == 0


async def test_a_detach_that_fails_leaves_it_attached(manager: Any) -> None:
    _, agent, _ = await manager.host()
    vm = await stopped(manager, volumes=[KEPT])
    agent.refuse = (422, "VM db1 runs; its volumes cannot change")
    await manager.admin.send(do.detach_volume("db1", "vdb"))
    after = await settled(manager, vm.id)
    assert shown(after) == [("vdb", 64, True, None, None)] and "cannot change" in after.error
    agent.refuse, agent.volumes[f"db1-vdb-{vm.id}"] = None, 64  # as after an agent that did it and could not say so
    await Reconciler(manager.core).once()
    assert (await manager.admin.send(do.list_volumes())).total == 0, "what is the VM's is nobody else's to take"
    await manager.admin.send(do.start_vm("db1"))
    await manager.until("db1", "running")
    assert [v.device for v in agent.specs[vm.id].volumes] == ["vdb"] and agent.specs[vm.id].attached == []


async def test_vm_start_or_a_new_manager_resumes_a_volume_change(manager: Any) -> None:
    _, agent, _ = await manager.host()
    vm = await stopped(manager, volumes=[KEPT])
    agent.away = True
    await manager.admin.send(do.detach_volume("db1", "vdb"))
    await manager.until("db1", lambda v: "try again" in v.error)
    await manager.admin.send(do.start_vm("db1"))
    agent.away = False
    after = await manager.until("db1", "running")
    assert shown(await settled(manager, after.id)) == [] and len(agent.specs[vm.id].detached) == 1
    assert (await manager.admin.send(do.list_volumes())).items[0].vm is None


async def test_volume_change_repeated_after_a_crash_has_the_same_result(manager: Any) -> None:
    """The agent made the change. The manager died before it recorded the result."""
    _, agent, _ = await manager.host()
    vm = await stopped(manager)
    await manager.admin.send(do.attach_volume("db1", KEPT))
    await settled(manager, vm.id)
    async with manager.core.db.transaction() as session:
        row = await session.get(Vm, vm.id)
        last = (await operations_of(session, vm.id))[-1]
        assert row is not None
        row.change(volumes=[row.spec.volumes[0].model_copy(update={"change": "attaching"})])
        last.state, last.finished_at = "pending", None
    manager.core.wake.set()
    assert shown(await settled(manager, vm.id)) == [("vdb", 64, True, None, None)]
    assert [call for call in agent.calls if call == ("put", vm.id)] == [("put", vm.id)] * 3


async def test_kept_volume_is_saved_before_its_vm_is_deleted(manager: Any) -> None:
    _, agent, _ = await manager.host()
    vm = await stopped(manager, volumes=[NEW, NEW])
    agent.away = True
    await manager.admin.send(do.detach_volume("db1", "vdb", data="keep"))
    await manager.until("db1", lambda v: "try again" in v.error)
    agent.calls.clear()
    await manager.admin.send(do.delete_vm("db1", force=True))
    await manager.until("db1", lambda v: v.state.value == "deleting" and "try again" in v.error)
    agent.away = False
    await overdue_not_yet(manager, vm.id)
    await manager.until("db1", "deleted")
    verbs = [verb for verb, subject in agent.calls if subject == vm.id]
    assert verbs[-2:] == ["put", "delete"] and [v.data for v in agent.specs[vm.id].detached] == ["keep"]
    assert [v.name for v in (await manager.admin.send(do.list_volumes())).items] == [f"db1-vdb-{vm.id}"]


async def overdue_not_yet(manager: Any, vm_id: str) -> None:
    """What was put off is done at once."""
    async with manager.core.db.transaction() as session:
        for operation in await operations_of(session, vm_id):
            operation.not_before = now()
    manager.core.wake.set()


async def test_outdated_inventory_changes_no_volume_record(manager: Any) -> None:
    """An inventory taken before a volume change adds no record and removes none."""
    _, agent, _ = await manager.host()
    agent.volumes["mine"] = 8
    await Reconciler(manager.core).once()
    vm = await stopped(manager, volumes=[VolumeCreate(name="mine"), KEPT])
    agent.volumes.clear()
    looked, go_on = asyncio.Event(), asyncio.Event()
    look = agent.inventory

    async def slowly() -> Any:
        found = await look()
        looked.set()
        await go_on.wait()
        return found

    agent.inventory = slowly
    one_pass = asyncio.create_task(Reconciler(manager.core).once())
    await looked.wait()
    for device in ("vdb", "vdc"):
        await manager.admin.send(do.detach_volume("db1", device))
        await settled(manager, vm.id)
    go_on.set()
    await one_pass
    assert [v.name for v in (await manager.admin.send(do.list_volumes())).items] == [f"db1-vdc-{vm.id}", "mine"]
    agent.inventory = look
    async with held(agent):
        agent.volumes.update({"mine": 8, f"db1-vdc-{vm.id}": 64})
        await manager.admin.send(do.attach_volume("db1", VolumeCreate(name="mine")))
        await Reconciler(manager.core).once()
        assert {v.name: v.vm for v in (await manager.admin.send(do.list_volumes())).items} == {
            "mine": "db1",
            f"db1-vdc-{vm.id}": None,
        }


async def test_viewer_cannot_change_volumes_and_both_views_agree(manager: Any) -> None:
    _, agent, _ = await manager.host()
    vm = await stopped(manager)
    viewer = await manager.role("viewer")
    for call in (viewer.send(do.attach_volume("db1", NEW)), viewer.send(do.detach_volume("db1", "vdb"))):
        assert (await refused(call))[0] == 403
    async with held(agent):
        await (await manager.role("operator")).send(do.attach_volume("db1", KEPT))
        assert (await manager.admin.send(do.list_vms())).items[0].volumes == (await manager.admin.send(do.get_vm("db1"))).volumes
    await settled(manager, vm.id)
