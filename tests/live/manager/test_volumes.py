"""Kept volumes are listed, and attach to one VM at a time on their own host."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.vms import VmCreate, VolumeCreate
from nqrust.contract.vms import Volume as Attached
from nqrust.manager.store.tables import Vm
from nqrust.manager.vms.volumes import _released
from nqrust.manager.volumes import service as volumes
from nqrust.manager.work.reconciler import Reconciler

KEEP = [VolumeCreate(size_mib=64, keep=True), VolumeCreate(size_mib=32)]


async def leave_one(manager: Any, agent: Any, name: str = "db1") -> str:
    """A VM that is gone and left a volume; the volume's name."""
    vm = await manager.admin.send(calls.create_vm(VmCreate(name=name, image="tiny", volumes=KEEP)))
    await manager.until(name, "running")
    await manager.admin.send(calls.delete_vm(name))
    await manager.until(name, "deleted")
    kept = f"{name}-vdb-{vm.id}"
    agent.volumes[kept] = 64
    return kept


def using(name: str, volume: str, **more: Any) -> VmCreate:
    return VmCreate(name=name, image="tiny", volumes=[VolumeCreate(name=volume)], **more)


async def test_operator_keeps_lists_and_attaches_a_volume_again(manager: Any) -> None:
    _, agent, _ = await manager.host()
    kept = await leave_one(manager, agent)
    (found,) = (await manager.admin.send(calls.list_volumes())).items
    assert (found.name, found.size_mib, found.host, found.vm) == (kept, 64, "h1", None)
    vm = await manager.admin.send(calls.create_vm(using("db2", "db1-vdb")))
    await manager.until("db2", "running")
    assert [(v.device, v.size_mib, v.keep, v.name) for v in vm.volumes] == [("vdb", 64, True, kept)]
    assert [v.name for v in agent.specs[vm.id].volumes] == [kept]
    assert (await manager.admin.send(calls.list_volumes())).items[0].vm == "db2"
    for call in (manager.admin.send(calls.create_vm(using("db3", kept))), manager.admin.send(calls.delete_volume(kept))):
        with pytest.raises(Refused, match="in use by VM db2") as refused:
            await call
        assert (refused.value.status, refused.value.code) == (409, "NQR-API-123")
    await manager.admin.send(calls.delete_vm("db2"))
    await manager.until("db2", "deleted")
    assert (await manager.admin.send(calls.list_volumes())).items[0].vm is None
    events = (await manager.admin.send(calls.list_events(subject="db2"))).items
    assert any(kept in event.message for event in events if event.reason == "Deleted")
    await manager.admin.send(calls.delete_volume(kept))
    assert agent.volumes == {} and (await manager.admin.send(calls.list_volumes())).total == 0


async def test_a_vm_goes_to_the_host_of_its_volume_or_nowhere(manager: Any) -> None:
    _, agent, _ = await manager.host("h1", memory_mib=2048)
    kept = await leave_one(manager, agent)
    _, elsewhere, _ = await manager.host("h2")
    elsewhere.volumes["other"] = 8
    await Reconciler(manager.core).once()
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.create_vm(using("db2", kept, host="h2")))
    assert (refused.value.status, refused.value.code) == (409, "NQR-API-124")
    both = VmCreate(name="db2", image="tiny", volumes=[VolumeCreate(name=kept), VolumeCreate(name="other")])
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.create_vm(both))
    assert refused.value.code == "NQR-API-124"
    assert (await manager.admin.send(calls.list_vms())).total == 0
    assert all(volume.vm is None for volume in (await manager.admin.send(calls.list_volumes())).items), "a refusal takes nothing"
    await manager.admin.send(calls.create_vm(using("db2", kept)))
    assert (await manager.until("db2", "running")).host == "h1", "though h2 has more room"
    assert [v.name for v in (await manager.admin.send(calls.list_volumes("h2"))).items] == ["other"]


async def test_unique_volume_name_prefix_is_accepted(manager: Any) -> None:
    _, agent, _ = await manager.host()
    agent.volumes = {"data-a": 8, "data-b": 8, "data": 8}
    await Reconciler(manager.core).once()
    with pytest.raises(Refused, match="data, data-a, data-b") as refused:
        await manager.admin.send(calls.create_vm(using("db1", "dat")))
    assert refused.value.code == "NQR-API-125"
    vm = await manager.admin.send(calls.create_vm(using("db1", "data", start=False)))
    assert vm.volumes[0].name == "data", "a whole name is no beginning of another"
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.create_vm(using("db2", "nope")))
    assert refused.value.status == 404


async def test_volume_records_follow_the_host(manager: Any) -> None:
    _, agent, _ = await manager.host()
    agent.volumes["mine"] = 8
    await Reconciler(manager.core).once()
    assert [v.name for v in (await manager.admin.send(calls.list_volumes())).items] == ["mine"]
    await manager.admin.send(calls.create_vm(using("db1", "mine")))
    await manager.until("db1", "running")
    agent.volumes.clear()
    await Reconciler(manager.core).once()
    assert [(v.name, v.vm) for v in (await manager.admin.send(calls.list_volumes())).items] == [("mine", "db1")], "a VM has it"
    await asyncio.sleep(0.2)
    await manager.admin.send(calls.delete_vm("db1"))
    await manager.until("db1", "deleted")
    assert (await manager.admin.send(calls.list_volumes())).total == 1
    agent.volumes.clear()
    await Reconciler(manager.core).once()
    assert (await manager.admin.send(calls.list_volumes())).total == 0


async def test_record_of_a_stolen_host_takes_no_volume_of_another_host(manager: Any) -> None:
    _, agent, _ = await manager.host("h1")
    await manager.host("h2", first="10.0.0.20")
    agent.volumes["mine"] = 8
    await Reconciler(manager.core).once()
    await manager.admin.send(calls.create_vm(using("db1", "mine")))
    await manager.until("db1", "running")
    await manager.admin.send(calls.create_vm(VmCreate(name="evil", image="tiny", host="h2")))
    await manager.until("evil", "running")
    claimed = Attached(name="mine", size_mib=8, device="vdb", change="detaching", data="delete")
    async with manager.core.db.transaction() as session:
        evil = (await session.scalars(select(Vm).where(Vm.name == "evil"))).one()
        evil.spec = evil.spec.model_copy(update={"volumes": [claimed]})
        await volumes.follow(session, evil)
        await _released(session, evil, claimed, "delete")
    (found,) = (await manager.admin.send(calls.list_volumes())).items
    assert (found.name, found.host, found.vm) == ("mine", "h1", "db1")


async def test_a_host_that_reports_the_volume_of_anothers_vm_does_not_get_it(manager: Any) -> None:
    _, agent, _ = await manager.host("h1", memory_mib=2048)
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="db1", image="tiny", volumes=KEEP)))
    assert (await manager.until("db1", "running")).host == "h1"
    kept = f"db1-vdb-{vm.id}"
    _, stolen, _ = await manager.host("h2")
    stolen.volumes[kept] = 64
    await Reconciler(manager.core).once()
    assert (await manager.admin.send(calls.list_volumes())).items == []
    agent.volumes[kept] = 64
    await manager.admin.send(calls.delete_vm("db1"))
    await manager.until("db1", "deleted")
    await Reconciler(manager.core).once()
    assert [(one.name, one.host) for one in (await manager.admin.send(calls.list_volumes())).items] == [(kept, "h1")]


async def test_volume_that_a_host_fails_to_delete_stays_recorded(manager: Any) -> None:
    _, agent, _ = await manager.host()
    kept = await leave_one(manager, agent)
    agent.away = True
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.delete_volume(kept))
    assert refused.value.status == 502
    assert (await manager.admin.send(calls.list_volumes())).total == 1
    agent.away = False
    await manager.admin.send(calls.delete_volume(kept))


async def test_a_host_that_does_not_answer_keeps_no_connection_to_the_database(manager: Any) -> None:
    """The attack: a volume of such a host, deleted and attached so often that the manager has no connection left."""
    _, agent, _ = await manager.host()
    kept = await leave_one(manager, agent)
    agent.hold = asyncio.Event()
    first = asyncio.create_task(manager.admin.send(calls.delete_volume(kept)))
    while ("delete_volume", kept) not in agent.calls:
        await asyncio.sleep(0.01)
    for call in (manager.admin.send(calls.create_vm(using("db3", kept))), manager.admin.send(calls.delete_volume(kept))):
        with pytest.raises(Refused, match="is being deleted") as refused:
            await asyncio.wait_for(call, 20)
        assert refused.value.code == "NQR-API-123"
    await asyncio.wait_for(Reconciler(manager.core).once(), 20)
    assert manager.core.db.engine.pool.checkedout() == 0
    agent.hold.set()
    await first
    assert agent.volumes == {} and (await manager.admin.send(calls.list_volumes())).total == 0
    assert manager.core.deleting == set()


async def test_placement_counts_a_kept_volume_as_used_disk(manager: Any) -> None:
    _, agent, _ = await manager.host()
    agent.volumes["huge"] = 900_000  # twice that is more than the host has
    await Reconciler(manager.core).once()
    await manager.admin.send(calls.create_vm(using("db1", "huge")))
    await manager.until("db1", "running")


@pytest.mark.parametrize("volume", [{}, {"size_mib": 64, "name": "x"}, {"name": "../x"}, {"size_mib": 1}])
def test_a_volume_is_an_empty_one_or_a_kept_one(volume: dict[str, Any]) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError):
        VolumeCreate.model_validate(volume)
