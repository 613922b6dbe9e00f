"""VMs without a record keep running, are reported once, and can be adopted or deleted. A real PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, text

from nqrust.client import calls
from nqrust.client.manager import Refused
from nqrust.contract.agent import VmStatus
from nqrust.contract.credentials import hash_token
from nqrust.contract.vms import GuestUser, PortForward, RateLimits, RestartPolicy, StopRequest, VmCreate, VolumeCreate
from nqrust.manager.store.tables import Tombstone, Vm
from nqrust.manager.vms import tombstones
from nqrust.manager.work.reconciler import Reconciler

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFDYWOCYXsx/YEGKrwzFq1h/QsJXCohAlanozKzQ9lRc ann@laptop"


@pytest.fixture()
def reconciler(manager: Any) -> Reconciler:
    return Reconciler(manager.core)


async def running(manager: Any, name: str = "web1", **more: Any) -> Any:
    await manager.admin.send(calls.create_vm(VmCreate(name=name, image="tiny", **more)))
    return await manager.until(name, "running")


async def lose(manager: Any, statement: str = "DELETE FROM vms") -> None:
    """As a restored database does, or a hand in the wrong table."""
    async with manager.core.db.transaction() as session:
        await session.execute(text(statement))


async def events_of(manager: Any, subject: str) -> list[str]:
    return [event.reason for event in (await manager.admin.send(calls.list_events(subject=subject))).items]


def done_to(agent: Any) -> list[str]:
    """Verbs that were asked of the agent, reading apart."""
    return [verb for verb, _ in agent.calls if verb not in ("inventory", "get", "record")]


async def test_lost_vm_record_stops_nothing_and_is_reported_once(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager)
    agent.vms[vm.id].started_at -= timedelta(days=3)
    await lose(manager)
    agent.calls.clear()
    for _ in range(3):
        await reconciler.once()
        reconciler = Reconciler(manager.core)  # a manager that was started again tells nothing twice
    assert done_to(agent) == []
    assert agent.vms[vm.id].state == "running"
    found = await manager.admin.send(calls.list_unknown_vms())
    assert [(one.id, one.name, one.host, one.state, one.ip, one.image) for one in found.items] == [
        (vm.id, "web1", "h1", "running", "10.0.0.10", "tiny")
    ]
    assert [one.id for one in (await manager.admin.send(calls.get_host("h1"))).unknown_vms] == [vm.id]
    assert [one.id for one in (await manager.admin.send(calls.list_hosts())).items[0].unknown_vms] == [vm.id]
    assert 'nqrust_unknown_vms{host="h1"} 1.0' in await manager.admin.send(calls.metrics())
    told = [event for event in (await manager.admin.send(calls.list_events(subject="h1"))).items if event.reason == "UnknownVm"]
    assert len(told) == 1 and f"nqr vm adopt {vm.id}" in told[0].message


async def test_unknown_vm_keeps_its_address_and_memory_reserved(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host(memory_mib=1024)
    vm = await running(manager, memory_mib=512)
    await lose(manager)
    await lose(manager, "UPDATE hosts SET last_ip = NULL")
    await reconciler.once()
    with pytest.raises(Refused, match="Not enough memory"):
        await manager.admin.send(calls.create_vm(VmCreate(name="big", image="tiny", memory_mib=512)))
    assert (await running(manager, "web2", memory_mib=64)).ip == "10.0.0.11"
    assert agent.vms[vm.id].ip == "10.0.0.10"


async def test_new_vm_avoids_an_address_that_only_the_host_knows_is_taken(manager: Any) -> None:
    """The manager does not know the lost VM before it first reads the host's inventory."""
    await manager.host()
    await running(manager)
    await lose(manager)
    await lose(manager, "UPDATE hosts SET last_ip = NULL")
    await manager.admin.send(calls.create_vm(VmCreate(name="web2", image="tiny")))
    put_off = await manager.until("web2", lambda vm: bool(vm.error) or vm.state == "running")
    assert put_off.error == "VM web1 has the address. The manager will try again."
    assert (await manager.until("web2", "running")).ip == "10.0.0.11"


async def test_adopting_restores_all_settings_of_the_vm(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    ann = GuestUser(name="ann", ssh_keys=[KEY], password_hash="$6$salt$abcdefghijkl")
    asked: dict[str, Any] = {
        "vcpus": 2,
        "memory_mib": 512,
        "disk_mib": 64,
        "autostart": False,
        "restart_policy": RestartPolicy.always,
        "tags": ["blue"],
        "users": [ann],
        "forwards": [PortForward(host_port=8080, guest_port=80)],
        "volumes": [VolumeCreate(size_mib=32, keep=True)],
        "rate_limits": RateLimits(disk_iops=100),
    }
    await running(manager, **asked)
    await manager.admin.send(calls.create_snapshot("web1", "before"))
    await manager.until("web1", lambda vm: vm.observed_generation == vm.generation)
    before = await manager.admin.send(calls.get_vm("web1"))
    agent.vms[before.id].started_at = before.started_at
    await lose(manager)
    await reconciler.once()
    agent.calls.clear()
    adopted = await manager.admin.send(calls.adopt_vm(before.id))
    assert done_to(agent) == [], "it is not touched"
    apart = {"guest", "guest_up_at", "created_at", "generation", "observed_generation"}
    assert adopted.model_dump(exclude=apart) == before.model_dump(exclude=apart)
    assert adopted.generation == adopted.observed_generation == agent.specs[before.id].generation
    assert (await manager.admin.send(calls.list_unknown_vms())).total == 0
    assert [one.name for one in (await manager.admin.send(calls.list_snapshots("web1"))).items] == ["before"]
    assert (await events_of(manager, "web1"))[0] == "VmAdopted"
    audited = (await manager.admin.send(calls.audit())).items
    assert any((entry.method, entry.path, entry.status) == ("POST", "/v1/vms/adopt", 201) for entry in audited)
    assert await reconciler.once() == []
    # its life goes on
    await manager.admin.send(calls.stop_vm("web1", StopRequest(force=True)))
    await manager.until("web1", "stopped")
    await manager.admin.send(calls.start_vm("web1"))
    await manager.until("web1", "running")
    spec = agent.specs[before.id]
    assert (spec.ip, spec.users, spec.tags, spec.generation) == ("10.0.0.10", [ann], ["blue"], adopted.generation + 2)
    async with manager.core.db.transaction() as session:
        row = await session.scalar(select(Vm))
        assert row is not None and hash_token(spec.guest_token) == row.guest_token_sha256, (
            "a token of its own, written at the start"
        )
    await manager.admin.send(calls.delete_vm("web1"))
    await manager.until(before.id, "deleted")
    assert agent.vms == {}
    assert [one.name for one in (await manager.admin.send(calls.list_volumes())).items] == [f"web1-vdb-{before.id}"]


@pytest.mark.parametrize(("state", "paused"), [("stopped", False), ("paused", True)])
async def test_adopting_keeps_the_current_state_of_the_vm(manager: Any, reconciler: Reconciler, state: str, paused: bool) -> None:
    await manager.host()
    vm = await running(manager)
    await manager.admin.send(calls.pause_vm("web1") if paused else calls.stop_vm("web1"))
    await manager.until("web1", state)
    await lose(manager)
    await reconciler.once()
    adopted = await manager.admin.send(calls.adopt_vm("web1"))
    assert (adopted.id, adopted.state.value, adopted.desired_state.value) == (vm.id, state, state)
    assert await reconciler.once() == []


async def refused(manager: Any, vm: str, name: str | None = None) -> Any:
    with pytest.raises(Refused) as error:
        await manager.admin.send(calls.adopt_vm(vm, name))
    return error.value


async def test_adopt_refusal_names_the_obstacle_and_its_cure(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager)
    await lose(manager)
    await reconciler.once()
    assert (await refused(manager, "nobody")).code == "NQR-API-103"
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", start=False)))
    other = await manager.until("web1", "stopped")
    taken = await refused(manager, vm.id)
    assert (taken.status, taken.code) == (409, "NQR-API-137") and "--name" in taken.cure
    async with manager.core.db.transaction() as session:
        await session.execute(text("UPDATE vms SET ip = '10.0.0.10'"))
    taken = await refused(manager, vm.id, "web2")
    assert (taken.status, taken.code) == (409, "NQR-API-138") and "web1" in str(taken)
    await manager.admin.send(calls.delete_vm("web1"))
    await manager.until(other.id, "deleted")
    adopted = await manager.admin.send(calls.adopt_vm(vm.id, "web2"))
    assert adopted.name == "web2"
    await manager.until("web2", lambda seen: seen.observed_generation == seen.generation)
    assert agent.specs[vm.id].name == "web2", "its host knows the new name"
    assert agent.vms[vm.id].state == "running"


async def test_a_renamed_vms_volume_is_found_under_the_name_that_its_host_gives_it(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager, volumes=[VolumeCreate(size_mib=32, keep=True)])
    await lose(manager)
    await reconciler.once()
    await manager.admin.send(calls.adopt_vm(vm.id, "web2"))
    await manager.until("web2", lambda seen: seen.observed_generation == seen.generation)
    await manager.admin.send(calls.delete_vm("web2"))
    await manager.until(vm.id, "deleted")
    assert (
        list(agent.volumes)
        == [f"web1-vdb-{vm.id}"]
        == [one.name for one in (await manager.admin.send(calls.list_volumes())).items]
    )


async def test_a_missing_image_and_a_missing_record_are_named(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager)
    await lose(manager)
    agent.alive(str(uuid4()), "lost")
    await reconciler.once()
    agent.specs[vm.id].image.name = "gone"
    assert (await refused(manager, vm.id)).code == "NQR-API-134"
    agent.vms.pop(vm.id)
    assert (await refused(manager, vm.id)).code == "NQR-API-133"


async def test_the_record_of_another_vm_is_not_adopted(
    manager: Any, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that confuses its VMs: the row would say of one what is true of another."""
    _, agent, _ = await manager.host()
    asked, other = await running(manager), await running(manager, "web2")
    await lose(manager)
    await reconciler.once()
    record = agent.vm_record

    async def confused(vm_id: str) -> Any:
        return await record(other.id)

    async def half_confused(vm_id: str) -> Any:
        found = await record(vm_id)
        return found.model_copy(update={"status": found.status.model_copy(update={"id": other.id})})

    for answer in (confused, half_confused):
        monkeypatch.setattr(agent, "vm_record", answer)
        found = await refused(manager, asked.id)
        assert (found.status, found.code) == (409, "NQR-API-133") and "another VM" in str(found)
    assert len((await manager.admin.send(calls.list_vms())).items) == 0
    assert {one.id for one in (await manager.admin.send(calls.list_unknown_vms())).items} == {asked.id, other.id}


async def test_vm_recorded_on_another_host_stays_with_that_host(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host("h1")
    _, other, _ = await manager.host("h2", first="10.0.0.100")
    vm = await running(manager, host="h1")
    other.vms[vm.id], other.specs[vm.id] = agent.vms[vm.id].model_copy(), agent.specs[vm.id]
    await reconciler.once()
    assert (agent.vms[vm.id].state, other.vms[vm.id].state) == ("running", "running")
    (unknown,) = (await manager.admin.send(calls.list_unknown_vms())).items
    assert (unknown.host, unknown.recorded_on) == ("h2", "h1")
    assert (await refused(manager, vm.id)).code == "NQR-API-136"
    await manager.admin.send(calls.delete_unknown_vm(vm.id))
    assert (set(agent.vms), set(other.vms)) == ({vm.id}, set())
    await reconciler.once()
    assert agent.vms[vm.id].state == "running"


async def test_operator_deletes_an_unknown_vm(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager)
    await lose(manager)
    await reconciler.once()
    with pytest.raises(Refused) as error:
        await (await manager.role("viewer")).send(calls.delete_unknown_vm(vm.id))
    assert error.value.status == 403
    agent.away = True
    with pytest.raises(Refused) as error:
        await (await manager.role("operator")).send(calls.delete_unknown_vm(vm.id))
    assert error.value.code == "NQR-API-120"
    assert (await refused(manager, vm.id)).status in (409, 502)
    agent.away = False
    await reconciler.once()
    assert agent.vms == {}, "the delete was on record"
    await reconciler.once()
    assert (await manager.admin.send(calls.list_unknown_vms())).total == 0


async def test_a_vm_that_somebody_deleted_is_not_adopted(manager: Any, reconciler: Reconciler) -> None:
    await manager.host()
    vm = await running(manager)
    await lose(manager)
    await reconciler.once()
    async with manager.core.db.transaction() as session:
        await tombstones.record(session, vm.id, "web1", vm.host_id, "ann")
    found = await refused(manager, vm.id)
    assert found.code == "NQR-API-135" and "ann deleted VM web1" in str(found)


async def test_a_delete_stays_on_record_until_long_after_its_host_confirmed_it(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager)
    agent.away = True
    await manager.admin.send(calls.delete_vm("web1", force=True))
    await manager.until(vm.id, "deleted")

    async def row() -> Tombstone | None:
        async with manager.core.db.transaction() as session:
            return await session.get(Tombstone, vm.id)

    kept = await row()
    assert kept is not None and (kept.name, kept.deleted_by, kept.confirmed_at) == ("web1", "token:cli", None)
    await lose(manager, "UPDATE tombstones SET deleted_at = deleted_at - interval '10 years'")
    async with manager.core.db.transaction() as session:
        await tombstones.prune(session)
    assert await row() is not None, "its host has not confirmed it"
    agent.away = False
    agent.vms.clear()
    await reconciler.once()
    kept = await row()
    assert kept is not None and kept.confirmed_at is not None
    async with manager.core.db.transaction() as session:
        await tombstones.prune(session)
    assert await row() is not None
    await lose(manager, "UPDATE tombstones SET confirmed_at = confirmed_at - interval '366 days'")
    async with manager.core.db.transaction() as session:
        await tombstones.prune(session)
    assert await row() is None


async def test_outdated_vm_record_follows_the_host_and_stops_nothing(manager: Any, reconciler: Reconciler) -> None:
    """A dump of a time when the VM was stopped, restored while it runs."""
    _, agent, _ = await manager.host()
    vm = await running(manager)
    await manager.admin.send(calls.stop_vm("web1"))
    stopped = await manager.until("web1", "stopped")
    await manager.admin.send(calls.start_vm("web1"))
    await manager.until("web1", "running")
    await manager.admin.send(calls.set_forwards("web1", [PortForward(host_port=8080, guest_port=80)]))
    newest = await manager.until("web1", lambda seen: seen.observed_generation == seen.generation)
    await lose(
        manager,
        f"UPDATE vms SET generation = {stopped.generation}, observed_generation = {stopped.generation}, "
        "desired_state = 'stopped', state = 'stopped', spec = spec || '{\"forwards\": []}'",
    )
    agent.calls.clear()
    await reconciler.once()
    assert done_to(agent) == [] and agent.vms[vm.id].state == "running"
    found = await manager.admin.send(calls.get_vm("web1"))
    assert (found.state.value, found.desired_state.value, found.generation) == ("running", "running", newest.generation)
    assert found.forwards == newest.forwards
    assert (await events_of(manager, "web1"))[0] == "RecordBehind"
    assert await reconciler.once() == []
    await manager.admin.send(calls.restart_vm("web1"))
    await manager.until("web1", "running")


async def test_a_new_manager_leaves_the_vms_of_a_host_that_joins_it(manager: Any, reconciler: Reconciler) -> None:
    """An agent that moves to a manager which never heard of its VMs."""
    _, agent, _ = await manager.host()
    for name in ("a", "b"):
        agent.vms[name] = VmStatus(
            id=name,
            name=name,
            state="running",
            scope=f"fc-{name}",
            disk=True,
            started_at=datetime.now(timezone.utc) - timedelta(days=9),
        )
    for _ in range(3):
        await reconciler.once()
    assert done_to(agent) == [] and {vm.state for vm in agent.vms.values()} == {"running"}
    assert [one.name for one in (await manager.admin.send(calls.list_unknown_vms())).items] == ["a", "b"]
    assert (await refused(manager, "a")).status in (409, 422)


async def test_vanished_vm_leaves_the_list_of_unknown_vms(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    agent.alive("x", "x")
    await reconciler.once()
    agent.away = True
    await reconciler.once()
    assert (await manager.admin.send(calls.list_unknown_vms())).total == 1, "a host that does not answer says nothing"
    agent.away = False
    agent.vms.clear()
    await reconciler.once()
    assert (await manager.admin.send(calls.list_unknown_vms())).total == 0
