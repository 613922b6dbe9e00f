"""VMs whose disks are not on their host, as after a boot without a mount: they wait, and no disk is made for them again."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from sqlalchemy import select, text

from nqrust.client import calls
from nqrust.client.errors import WaitFailed
from nqrust.contract.agent import VmSpec, VmStatus
from nqrust.contract.problem import Problem
from nqrust.contract.vms import RestartPolicy, StopRequest, VmCreate, VmState, VolumeCreate
from nqrust.manager.core.agents import AgentSaidNo
from nqrust.manager.store.tables import Host
from nqrust.manager.work import diff
from nqrust.manager.work.reconciler import Reconciler


@pytest.fixture()
def reconciler(manager: Any, monkeypatch: pytest.MonkeyPatch) -> Reconciler:
    monkeypatch.setattr(diff, "RETRY_FAILED_AFTER", diff.timedelta(0))
    return Reconciler(manager.core)


async def running(manager: Any, name: str = "web1", **more: Any) -> Any:
    await manager.admin.send(calls.create_vm(VmCreate(name=name, image="tiny", **more)))
    return await manager.until(name, "running")


async def boot(manager: Any, agent: Any) -> dict[str, Any]:
    """Boot the host without its data folder. Return what is on the disk that is not mounted."""
    for status in agent.vms.values():
        status.state, status.started_at, status.exit_reason = "failed", None, "its host went down"
    disk, agent.vms = agent.vms, {}
    agent.boot_id = "boot-2"
    async with manager.core.db.transaction() as session:
        host = await session.scalar(select(Host))
        assert host is not None
        host.boot_id = "boot-2"
    agent.calls.clear()
    return disk


def done_to(agent: Any) -> list[str]:
    return [verb for verb, _ in agent.calls if verb not in ("inventory", "get")]


async def told(manager: Any, name: str, reason: str) -> list[str]:
    events = (await manager.admin.send(calls.vm_events(name))).items
    return [event.message for event in events if event.reason == reason]


async def test_vms_wait_for_their_disks_after_a_boot_and_then_start(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    await running(manager, "auto")
    await running(manager, "manual", autostart=False)
    disk = await boot(manager, agent)
    for _ in range(3):
        await reconciler.once()
    assert done_to(agent) == [], "no disk is made again"
    waiting = await manager.admin.send(calls.get_vm("auto"))
    assert (waiting.state, waiting.desired_state.value) == (VmState.stopped, "running")
    assert "Mount the file system of the host's data folder" in waiting.error
    assert len(await told(manager, "auto", "DiskMissing")) == 1
    agent.vms = disk
    await reconciler.once()
    assert (await manager.until("auto", "running")).error == ""
    assert (await manager.admin.send(calls.get_vm("manual"))).state is VmState.stopped
    assert agent.specs[waiting.id].made


async def test_a_start_without_the_disk_is_refused_and_made_good_later(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager)
    await manager.admin.send(calls.stop_vm("web1", StopRequest(force=True)))
    await manager.until("web1", "stopped")
    disk = await boot(manager, agent)
    asked = await manager.admin.send(calls.start_vm("web1"))
    with pytest.raises(WaitFailed, match="is not on this host"):
        await manager.admin.wait_for("web1", "running", 10, since=asked.generation)
    found = await manager.admin.send(calls.get_vm("web1"))
    assert (found.state, found.desired_state.value) == (VmState.stopped, "running")
    await reconciler.once()
    assert done_to(agent) == ["put"]
    agent.vms = disk
    await reconciler.once()
    await manager.until("web1", "running")
    assert agent.vms[vm.id].state == "running"


def full(agent: Any) -> None:
    async def put(spec: VmSpec) -> VmStatus:
        agent.calls.append(("put", spec.id))
        raise AgentSaidNo(507, Problem(title="The disk is full.", status=507, code="NQR-VMM-109", cure="Make room."))

    agent.put_vm = put


@pytest.mark.parametrize("kind", ["create", "start", "restart"])
async def test_a_start_that_finds_the_disk_full_is_made_good_later(manager: Any, reconciler: Reconciler, kind: str) -> None:
    _, agent, _ = await manager.host()
    if kind != "create":
        await running(manager)
    if kind == "start":
        await manager.admin.send(calls.stop_vm("web1", StopRequest(force=True)))
        await manager.until("web1", "stopped")
    real = agent.put_vm
    full(agent)
    call = {
        "create": calls.create_vm(VmCreate(name="web1", image="tiny")),
        "start": calls.start_vm("web1"),
        "restart": calls.restart_vm("web1", StopRequest(force=True)),
    }
    asked = await manager.admin.send(call[kind])
    with pytest.raises(WaitFailed, match=r"The disk is full\. Make room\."):
        await manager.admin.wait_for("web1", "running", 10, since=asked.generation)
    found = await manager.admin.send(calls.get_vm("web1"))
    assert (found.state, found.desired_state.value) == (VmState.stopped, "running")
    agent.put_vm = real
    await reconciler.once()
    assert (await manager.until("web1", "running")).error == ""


async def test_a_disk_that_stays_full_is_told_once(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    full(agent)
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))

    async def waits(why: str) -> None:
        await manager.until("web1", lambda vm: vm.observed_generation == vm.generation and why in vm.error)

    await waits("is full")
    for _ in range(3):
        await reconciler.once()
        await waits("is full")
    assert done_to(agent) == ["put"] * 4
    assert len(await told(manager, "web1", "Reconciling")) == 1
    assert await told(manager, "web1", "OperationFailed") == ["VM web1: create failed. The disk is full. Make room."]
    agent.put_vm = type(agent).put_vm.__get__(agent)
    agent.refuse = (507, "Another disk is full.")
    await reconciler.once()
    await waits("Another")
    assert len(await told(manager, "web1", "OperationFailed")) == 2, "another reason"


@pytest.mark.parametrize(
    "asked",
    [{"start": False}, {"restart_policy": RestartPolicy.never}, {"autostart": False}],
    ids=["made only", "never", "no autostart"],
)
async def test_a_full_disk_fails_what_the_manager_does_not_start_later(
    manager: Any, reconciler: Reconciler, asked: dict[str, Any]
) -> None:
    """A job of `nqr run` that failed would run beside its second attempt."""
    _, agent, _ = await manager.host()
    real = agent.put_vm
    full(agent)
    made = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", **asked)))
    wanted: Literal["running", "stopped"] = "running" if asked.get("start", True) else "stopped"
    with pytest.raises(WaitFailed, match=r"failed: The disk is full\. Make room\."):
        await manager.admin.wait_for("web1", wanted, 10, since=made.generation)
    agent.put_vm = real
    await reconciler.once()
    assert done_to(agent) == ["put"]
    await manager.admin.send(calls.start_vm("web1"))
    await manager.until("web1", "running")


async def test_a_vm_without_its_disk_can_be_deleted(manager: Any, reconciler: Reconciler) -> None:
    """Its host was replaced by an empty machine."""
    _, agent, _ = await manager.host()
    vm = await running(manager)
    await boot(manager, agent)
    await reconciler.once()
    await manager.admin.send(calls.delete_vm("web1"))
    await manager.until(vm.id, "deleted")
    await running(manager)


@pytest.mark.parametrize("has", ["snapshot", "volume"])
async def test_what_is_left_of_a_vm_whose_disk_is_lost_is_not(manager: Any, reconciler: Reconciler, has: str) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager, volumes=[VolumeCreate(size_mib=16)])
    stop = calls.stop_vm("web1", StopRequest(force=True))
    if has == "snapshot":
        await manager.admin.send(stop)
        await manager.until("web1", "stopped")
        await manager.admin.send(calls.create_snapshot("web1", "a"))
        await manager.until("web1", lambda seen: seen.observed_generation == seen.generation)
        await manager.admin.send(calls.start_vm("web1"))
        await manager.until("web1", "running")
    found = agent.vms[vm.id]
    found.state, found.disk, found.started_at, found.exit_reason = "failed", False, None, "its host went down"
    await reconciler.once()
    waiting = await manager.admin.send(calls.get_vm("web1"))
    assert (
        waiting.state is VmState.stopped and "a backup or a snapshot" in waiting.error and "volume detach --keep" in waiting.error
    )
    if has == "snapshot":
        asked = await manager.admin.send(calls.restore_snapshot("web1", "a"))
        await manager.admin.wait_for("web1", "stopped", 10, since=asked.generation)
    else:
        await manager.admin.send(stop)
        await manager.until("web1", lambda seen: seen.desired_state.value == "stopped" and seen.state is VmState.stopped)
        await manager.admin.send(calls.detach_volume("web1", "vdb", "keep"))
        await manager.until("web1", lambda seen: not seen.volumes)
        assert [one.name for one in (await manager.admin.send(calls.list_volumes())).items] == [f"web1-vdb-{vm.id}"]


async def test_disks_of_before_the_upgrade_are_known_after_one_pass(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    await running(manager)
    async with manager.core.db.transaction() as session:
        await session.execute(text("UPDATE vms SET made = false"))
    await reconciler.once()
    await boot(manager, agent)
    await reconciler.once()
    assert done_to(agent) == []


async def test_a_vm_that_never_got_a_disk_starts_later(manager: Any) -> None:
    _, agent, _ = await manager.host()
    agent.refuse = (422, "no room")
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    await manager.until("web1", lambda seen: seen.state is VmState.failed)
    agent.refuse = None
    await manager.admin.send(calls.start_vm("web1"))
    await manager.until("web1", "running")
    assert not agent.specs[vm.id].made
