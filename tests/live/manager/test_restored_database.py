"""Restored records are older than the host's state. They follow the host, and nothing is undone. A real PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, select

from nqrust.client import calls
from nqrust.contract.vms import RestartPolicy, StopRequest, VmCreate, VolumeCreate
from nqrust.manager.clock import now
from nqrust.manager.store.tables import Host, Operation, Snapshot, Tombstone, Vm, Volume
from nqrust.manager.work.reconciler import Reconciler

PANIC = "The guest's kernel panicked: Attempted to kill init!"


@pytest.fixture()
def reconciler(manager: Any) -> Reconciler:
    return Reconciler(manager.core)


class Dump:
    """The rows of VMs and kept volumes, as pg_dump(1) takes them and a restore brings them back."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager

    async def take(self) -> Dump:
        async with self._manager.core.db.transaction() as session:
            self._vms = [dict(row) for row in (await session.execute(select(Vm.__table__))).mappings()]
            self._volumes = [dict(row) for row in (await session.execute(select(Volume.__table__))).mappings()]
        return self

    async def restore(self) -> None:
        async with self._manager.core.db.transaction() as session:
            await session.execute(delete(Volume))
            await session.execute(delete(Vm))
            await session.execute(insert(Vm.__table__).values(self._vms))
            if self._volumes:
                await session.execute(insert(Volume.__table__).values(self._volumes))


def done_to(agent: Any) -> list[str]:
    return [verb for verb, _ in agent.calls if verb not in ("inventory", "get", "record")]


async def at_rest(manager: Any, name: str = "web1") -> Any:
    """The VM, once its host has done all that was asked."""

    def settled(vm: Any) -> bool:
        return bool(vm.observed_generation == vm.generation and vm.state in ("running", "paused", "stopped"))

    return await manager.until(name, settled)


async def stop(manager: Any) -> None:
    await manager.admin.send(calls.stop_vm("web1", StopRequest(force=True)))


async def pause(manager: Any) -> None:
    await manager.admin.send(calls.pause_vm("web1"))


async def resume(manager: Any) -> None:
    await manager.admin.send(calls.resume_vm("web1"))


async def snapshot(manager: Any) -> None:
    await manager.admin.send(calls.create_snapshot("web1", "live"))


async def restore(manager: Any) -> None:
    await manager.admin.send(calls.restore_snapshot("web1", "live"))


Step = Callable[[Any], Awaitable[None]]


@pytest.mark.parametrize(
    ("before", "after", "state"),
    [
        ([snapshot, stop], [restore], "running"),
        ([pause], [resume], "running"),
        ([pause, resume], [pause], "paused"),
        ([], [stop], "stopped"),
        ([pause], [resume, pause, resume], "running"),
        ([snapshot, stop], [restore, pause], "paused"),
    ],
    ids=["snapshot restored", "resumed", "paused", "stopped", "resumed twice", "restored and paused"],
)
async def test_restored_database_keeps_host_changes_made_after_the_dump(
    manager: Any, reconciler: Reconciler, before: list[Step], after: list[Step], state: str
) -> None:
    _, agent, _ = await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", restart_policy=RestartPolicy.always)))
    await at_rest(manager)
    for step in before:
        await step(manager)
        await at_rest(manager)
    dump = await Dump(manager).take()
    for step in after:
        await step(manager)
        newest = await at_rest(manager)
    await dump.restore()
    agent.calls.clear()
    for _ in range(2):
        await reconciler.once()
    assert done_to(agent) == [] and agent.vms[newest.id].state == state
    found = await manager.admin.send(calls.get_vm("web1"))
    assert (found.state.value, found.desired_state.value, found.generation) == (state, state, newest.generation)
    assert (await manager.admin.send(calls.list_events(subject="web1"))).items[0].reason == "RecordBehind"


@pytest.mark.parametrize(
    ("policy", "autostart", "boot_id", "state"),
    [
        (RestartPolicy.on_failure, True, "boot-1", "stopped"),
        (RestartPolicy.never, True, "boot-1", "failed"),
        (RestartPolicy.never, True, "boot-2", "stopped"),
        (RestartPolicy.always, False, "boot-2", "failed"),
    ],
    ids=["its policy brings it back", "its policy does not", "host rebooted", "host rebooted, no autostart"],
)
async def test_restored_database_restarts_a_failed_vm_by_its_policy(
    manager: Any, reconciler: Reconciler, policy: RestartPolicy, autostart: bool, boot_id: str, state: str
) -> None:
    _, agent, _ = await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", restart_policy=policy, autostart=autostart)))
    vm = await at_rest(manager)
    dump = await Dump(manager).take()
    await pause(manager)
    await at_rest(manager)
    await resume(manager)
    await at_rest(manager)
    await dump.restore()
    status = agent.vms[vm.id]
    status.state, status.exit_reason, status.started_at = "failed", PANIC, None
    if boot_id != "boot-1":
        agent.boot_id = boot_id
        async with manager.core.db.transaction() as session:
            host = await session.scalar(select(Host))
            assert host is not None
            host.boot_id = boot_id
    agent.calls.clear()
    await reconciler.once()
    assert done_to(agent) == [], "the row first"
    found = await manager.admin.send(calls.get_vm("web1"))
    back = state == "stopped"
    assert (found.state.value, found.desired_state.value) == (state, "running" if back else "stopped")
    assert found.error == PANIC and found.started_at is None
    await reconciler.once()
    if back:
        await manager.until("web1", "running")
    assert agent.vms[vm.id].state == ("running" if back else "failed")


@pytest.mark.parametrize(("policy", "wanted"), [(RestartPolicy.on_failure, "running"), (RestartPolicy.never, "stopped")])
async def test_restored_database_boots_a_vm_again_whose_guest_rebooted(
    manager: Any, reconciler: Reconciler, policy: RestartPolicy, wanted: str
) -> None:
    _, agent, _ = await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", restart_policy=policy)))
    vm = await at_rest(manager)
    dump = await Dump(manager).take()
    for step in (pause, resume):
        await step(manager)
        await at_rest(manager)
    await dump.restore()
    status = agent.vms[vm.id]
    status.state, status.rebooted, status.exit_reason, status.started_at = "stopped", True, "The guest rebooted.", None
    await reconciler.once()
    found = await manager.admin.send(calls.get_vm("web1"))
    assert (found.state.value, found.desired_state.value) == ("stopped", wanted)
    await reconciler.once()
    await manager.until("web1", wanted)
    assert agent.vms[vm.id].state == wanted


async def test_restored_database_takes_attached_volumes_from_the_host(manager: Any, reconciler: Reconciler) -> None:
    """Since the dump, one volume moved to another VM, and a free volume was attached to this VM."""
    _, agent, _ = await manager.host()
    for name in ("old", "new"):
        await manager.admin.send(
            calls.create_vm(VmCreate(name=name, image="tiny", start=False, volumes=[VolumeCreate(size_mib=32, keep=True)]))
        )
        made = await at_rest(manager, name)
        await manager.admin.send(calls.delete_vm(name))
        await manager.until(made.id, "deleted")
    names = sorted(one.name for one in (await manager.admin.send(calls.list_volumes())).items)
    new, old = names
    for name, volumes in (("web1", [VolumeCreate(name=old)]), ("web2", [])):
        await manager.admin.send(calls.create_vm(VmCreate(name=name, image="tiny", start=False, volumes=volumes)))
        await at_rest(manager, name)
    agent.volumes.pop(old)  # it is in the VM's own folder
    dump = await Dump(manager).take()
    await manager.admin.send(calls.detach_volume("web1", "vdb"))
    await at_rest(manager)
    agent.volumes[old] = 32
    await reconciler.once()
    await manager.admin.send(calls.attach_volume("web2", VolumeCreate(name=old)))
    await manager.admin.send(calls.attach_volume("web1", VolumeCreate(name=new)))
    for name in ("web1", "web2"):
        await at_rest(manager, name)
    agent.volumes.clear()
    await dump.restore()
    for _ in range(2):
        await reconciler.once()
    found = {one.name: one.vm for one in (await manager.admin.send(calls.list_volumes())).items}
    assert found == {old: "web2", new: "web1"}
    assert [one.name for one in (await manager.admin.send(calls.get_vm("web1"))).volumes] == [new]
    # it is nobody's again when the VM lets go of it
    await manager.admin.send(calls.detach_volume("web2", "vdb"))
    await at_rest(manager, "web2")
    agent.volumes[old] = 32
    await reconciler.once()
    await manager.admin.send(calls.delete_volume(old))
    assert {one.name for one in (await manager.admin.send(calls.list_volumes())).items} == {new}


async def test_restored_database_frees_a_volume_detached_after_the_dump(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    await manager.admin.send(
        calls.create_vm(VmCreate(name="old", image="tiny", start=False, volumes=[VolumeCreate(size_mib=32, keep=True)]))
    )
    made = await at_rest(manager, "old")
    await manager.admin.send(calls.delete_vm("old"))
    await manager.until(made.id, "deleted")
    (kept,) = (await manager.admin.send(calls.list_volumes())).items
    await manager.admin.send(
        calls.create_vm(VmCreate(name="web1", image="tiny", start=False, volumes=[VolumeCreate(name=kept.name)]))
    )
    await at_rest(manager)
    dump = await Dump(manager).take()
    await manager.admin.send(calls.detach_volume("web1", "vdb"))
    await at_rest(manager)
    assert kept.name in agent.volumes
    await dump.restore()
    await reconciler.once()
    (found,) = (await manager.admin.send(calls.list_volumes())).items
    assert (found.name, found.vm) == (kept.name, None)
    await manager.admin.send(calls.delete_volume(kept.name))


async def test_a_vm_made_since_the_dump_runs_on_and_one_deleted_since_has_no_disk(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="deleted", image="tiny")))
    gone = await at_rest(manager, "deleted")
    dump = await Dump(manager).take()
    await manager.admin.send(calls.create_vm(VmCreate(name="made", image="tiny")))
    made = await at_rest(manager, "made")
    await manager.admin.send(calls.delete_vm("deleted"))
    await manager.until(gone.id, "deleted")
    await dump.restore()
    async with manager.core.db.transaction() as session:
        await session.execute(delete(Tombstone))  # of after the dump
        await session.execute(delete(Operation))
    agent.calls.clear()
    for _ in range(3):
        await reconciler.once()
        await at_rest(manager, "deleted")
    touched = [call for call in agent.calls if call[0] not in ("inventory", "get", "record")]
    assert touched == [] and {vm.id: vm.state for vm in agent.vms.values()} == {made.id: "running"}
    found = await manager.admin.send(calls.get_vm("deleted"))
    assert found.state.value == "stopped" and found.error.startswith("Its disk is not on its host.")
    await manager.admin.send(calls.delete_vm("deleted"))
    await manager.until(gone.id, "deleted")
    assert [vm.id for vm in (await manager.admin.send(calls.list_unknown_vms())).items] == [made.id]


@pytest.mark.parametrize("kind", ["forget", "snapshot"])
@pytest.mark.parametrize("guard", ["its host knows a newer generation", "it is too old"])
async def test_restored_database_touches_no_snapshot_taken_since(
    manager: Any, reconciler: Reconciler, kind: str, guard: str
) -> None:
    """The dump was taken while `live` was being deleted or taken. Since then there is another one of that name."""
    _, agent, _ = await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    vm = await at_rest(manager)
    agent.snapshots[vm.id, "live"] = "disk"
    newer, age = guard != "it is too old", timedelta(days=0 if guard != "it is too old" else 14)
    if newer:
        await agent.pause_vm(vm.id, vm.generation + 9)
    async with manager.core.db.transaction() as session:
        state, size = ("deleting", 1024) if kind == "forget" else ("creating", 0)
        session.add(Snapshot(vm_id=vm.id, name="live", kind="full", state=state, size=size))
        session.add(
            Operation(
                vm_id=vm.id,
                kind=kind,
                generation=vm.generation,
                params={"snapshot": "live", "request": "of then"},
                state="pending",
                attempts=0,
                not_before=now() - age,
                deadline=now() - age + timedelta(minutes=10),
            )
        )
    manager.core.wake.set()
    await manager.until("web1", lambda found: found.error and "try again" not in found.error)
    assert agent.snapshots == {(vm.id, "live"): "disk"}
    (shown,) = (await manager.admin.send(calls.list_snapshots("web1"))).items
    assert shown.state == ("ready" if kind == "forget" else "failed")
    assert ("newer generation" if newer else "expired") in shown.error
    await reconciler.once()
    assert (await manager.admin.send(calls.get_vm("web1"))).state.value == ("paused" if newer else "running")
