"""Snapshots through the API: the manager records first, then asks the host. A failure never harms the VM."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.vms import VmCreate
from nqrust.manager import operations
from nqrust.manager.core.agents import AgentAway
from nqrust.manager.store.tables import Snapshot


async def settled(manager: Any, vm: str, name: str) -> Any:
    for _ in range(200):
        found = next((s for s in (await manager.admin.send(calls.list_snapshots(vm))).items if s.name == name), None)
        if found is None or found.state in ("ready", "failed"):
            return found
        await asyncio.sleep(0.02)
    raise AssertionError("it stays as it is")


async def stopped_vm(manager: Any) -> Any:
    _, agent, _ = await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", start=False)))
    await manager.until("web1", "stopped")
    await asyncio.sleep(0.1)
    return agent


async def test_operator_takes_restores_and_deletes_a_snapshot(manager: Any) -> None:
    agent = await stopped_vm(manager)
    assert (await manager.admin.send(calls.create_snapshot("web1", "s1"))).state == "creating"
    made = await settled(manager, "web1", "s1")
    assert (made.state, made.kind, made.size) == ("ready", "disk", 1024)
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.create_snapshot("web1", "s1"))
    assert refused.value.status == 409
    await manager.admin.send(calls.restore_snapshot("web1", "s1"))
    await manager.until("web1", lambda v: any(call[0] == "restore" for call in agent.calls))
    await asyncio.sleep(0.2)
    assert (await manager.until("web1", "stopped")).desired_state.value == "stopped"
    await manager.admin.send(calls.delete_snapshot("web1", "s1"))
    assert await settled(manager, "web1", "s1") is None
    reasons = {event.reason for event in (await manager.admin.send(calls.list_events(subject="web1"))).items}
    assert {"SnapshotTaken", "SnapshotRestored", "SnapshotDeleted"} <= reasons


async def test_a_running_vm_is_snapshotted_with_its_memory_and_restored_when_stopped(manager: Any) -> None:
    await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    await manager.until("web1", "running")
    await asyncio.sleep(0.2)
    await manager.admin.send(calls.create_snapshot("web1", "live"))
    made = await settled(manager, "web1", "live")
    assert (made.state, made.kind) == ("ready", "full")
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.restore_snapshot("web1", "live"))
    assert refused.value.status == 409
    await asyncio.sleep(0.2)
    await manager.admin.send(calls.stop_vm("web1"))
    await manager.until("web1", "stopped")
    await asyncio.sleep(0.2)
    assert (await manager.admin.send(calls.restore_snapshot("web1", "live"))).desired_state.value == "running"
    await manager.until("web1", "running")


async def test_failed_snapshot_says_why_and_the_vm_still_starts(manager: Any) -> None:
    agent = await stopped_vm(manager)
    agent.refuse = (422, "the disk is full")
    await manager.admin.send(calls.create_snapshot("web1", "s1"))
    found = await settled(manager, "web1", "s1")
    assert found.state == "failed" and "disk is full" in found.error
    assert (await manager.admin.send(calls.get_vm("web1"))).state.value == "stopped"
    agent.refuse = None
    await manager.admin.send(calls.create_snapshot("web1", "s1"))
    assert (await settled(manager, "web1", "s1")).state == "ready", "the name can be used again"
    await manager.admin.send(calls.start_vm("web1"))
    await manager.until("web1", "running")


async def test_each_request_for_a_snapshot_has_an_identity_and_keeps_it_when_it_is_repeated(manager: Any) -> None:
    agent = await stopped_vm(manager)
    agent.refuse = (503, "busy")
    await manager.admin.send(calls.create_snapshot("web1", "s1"))
    await manager.until("web1", lambda v: len(agent.requests) > 1)
    agent.refuse = None
    assert (await settled(manager, "web1", "s1")).state == "ready"
    assert len(set(agent.requests)) == 1 and agent.requests[0]
    await manager.admin.send(calls.delete_snapshot("web1", "s1"))
    await settled(manager, "web1", "s1")
    await manager.admin.send(calls.create_snapshot("web1", "s1"))
    await settled(manager, "web1", "s1")
    assert len(set(agent.requests)) == 2


async def test_a_snapshot_whose_deletion_fails_keeps_its_name(manager: Any) -> None:
    agent = await stopped_vm(manager)
    await manager.admin.send(calls.create_snapshot("web1", "s1"))
    await settled(manager, "web1", "s1")
    agent.refuse = (422, "the disk is read-only")
    await manager.admin.send(calls.delete_snapshot("web1", "s1"))
    found = await settled(manager, "web1", "s1")
    assert found.state == "ready" and "read-only" in found.error
    agent.refuse = None
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.create_snapshot("web1", "s1"))
    assert refused.value.status == 409
    assert (await manager.admin.send(calls.delete_snapshot("web1", "s1"))).error == ""
    assert await settled(manager, "web1", "s1") is None


async def test_a_deletion_that_a_start_overtakes_leaves_the_snapshot(manager: Any) -> None:
    agent = await stopped_vm(manager)
    await manager.admin.send(calls.create_snapshot("web1", "s1"))
    await settled(manager, "web1", "s1")
    agent.away = True
    await manager.admin.send(calls.delete_snapshot("web1", "s1"))
    await manager.until("web1", lambda v: ("delete_snapshot", v.id) in agent.calls)
    await manager.admin.send(calls.start_vm("web1"))
    agent.away = False
    found = await settled(manager, "web1", "s1")
    assert found.state == "ready" and "newer request" in found.error
    await manager.until("web1", "running")
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.create_snapshot("web1", "s1"))
    assert refused.value.status == 409


async def test_a_failed_snapshot_that_cannot_be_deleted_stays_failed(manager: Any) -> None:
    agent = await stopped_vm(manager)
    agent.refuse = (422, "the disk is full")
    await manager.admin.send(calls.create_snapshot("web1", "s1"))
    await settled(manager, "web1", "s1")
    await manager.admin.send(calls.delete_snapshot("web1", "s1"))
    assert (await settled(manager, "web1", "s1")).state == "failed"


async def test_deleting_a_vm_deletes_its_snapshots(manager: Any) -> None:
    await stopped_vm(manager)
    await manager.admin.send(calls.create_snapshot("web1", "s1"))
    await settled(manager, "web1", "s1")
    await manager.admin.send(calls.delete_vm("web1"))
    await manager.until("web1", "deleted")
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.list_snapshots("web1"))
    assert refused.value.status == 404


@pytest.mark.parametrize("kind", ["disk", "full"])
async def test_a_restore_whose_answer_is_lost_is_asked_for_again_and_done_once(
    manager: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    agent = await stopped_vm(manager)
    await manager.admin.send(calls.create_snapshot("web1", "s1"))
    await settled(manager, "web1", "s1")
    vm, restore, asked = await manager.admin.send(calls.get_vm("web1")), agent.restore_snapshot, []
    agent.snapshots[vm.id, "s1"] = kind
    async with manager.core.db.transaction() as session:
        (await session.get(Snapshot, (vm.id, "s1"))).kind = kind

    async def lost(*arguments: Any) -> Any:
        asked.append(arguments)
        found = await restore(*arguments)
        if len(asked) == 1:
            raise AgentAway("The agent does not answer.")
        return found

    monkeypatch.setattr(agent, "restore_snapshot", lost)
    await manager.admin.send(calls.restore_snapshot("web1", "s1"))
    at_rest = await manager.until("web1", lambda v: len(asked) == 2 and v.observed_generation == v.generation)
    state = "running" if kind == "full" else "stopped"
    assert (at_rest.desired_state.value, at_rest.state.value, at_rest.error) == (state, state, "")
    assert asked[0] == asked[1] and asked[0][-1], "the same request"
    await manager.admin.send(calls.stop_vm("web1"))
    await manager.until("web1", "stopped")
    await asyncio.sleep(0.2)
    await manager.admin.send(calls.restore_snapshot("web1", "s1"))
    await manager.until("web1", lambda v: len(asked) == 3 and v.observed_generation == v.generation)
    assert asked[2][-1] != asked[0][-1], "another one is another restore"


async def test_requests_that_queue_for_hours_are_carried_out(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host takes a few at a time, and a nightly snapshot of each of its VMs can take long."""
    for kind in ("snapshot", "forget"):
        monkeypatch.setitem(operations.DEADLINES, kind, timedelta(hours=-5))
    await stopped_vm(manager)
    await manager.admin.send(calls.create_snapshot("web1", "nightly"))
    made = await settled(manager, "web1", "nightly")
    assert (made.state, made.error) == ("ready", "")
    await manager.admin.send(calls.delete_snapshot("web1", "nightly"))
    assert await settled(manager, "web1", "nightly") is None
