"""The reconciler at work: simulated agents that lose, keep and invent VMs; a real PostgreSQL."""

from __future__ import annotations

import random
import string
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.agent import REBOOTED, TapStatus
from nqrust.contract.names import CANARY_PREFIX, CANARY_TAG
from nqrust.contract.problem import Problem
from nqrust.contract.vms import DesiredState, RestartPolicy, VmCreate, VmState
from nqrust.manager.core.agents import AgentSaidNo
from nqrust.manager.work import acts
from nqrust.manager.work.reconciler import Reconciler


@pytest.fixture()
def reconciler(manager: Any) -> Reconciler:
    return Reconciler(manager.core)


async def running(manager: Any, name: str = "web1", **more: Any) -> Any:
    await manager.admin.send(calls.create_vm(VmCreate(name=name, image="tiny", **more)))
    return await manager.until(name, "running")


async def reasons(manager: Any, subject: str) -> list[str]:
    return [event.reason for event in (await manager.admin.send(calls.list_events(subject=subject))).items]


async def test_a_converged_platform_is_left_alone(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    await running(manager)
    agent.calls.clear()
    assert await reconciler.once() == []
    assert agent.calls == [("inventory", "")]


async def test_a_vm_that_died_is_restarted_with_growing_pauses(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager)
    agent.vms[vm.id].state = "failed"
    await reconciler.once()
    again = await manager.until("web1", "running")
    assert again.started_at > vm.started_at
    agent.vms[vm.id].state = "failed"
    await reconciler.once()
    assert (await manager.admin.send(calls.get_vm("web1"))).state is VmState.starting
    assert await reconciler.once() == [], "while it waits for its turn nothing more is asked for"
    died = [e for e in (await manager.admin.send(calls.vm_events("web1"))).items if e.reason == "VmDied"]
    assert len(died) == 2 and "in 5 s" in died[0].message


async def test_bad_guest_report_does_not_block_other_vms(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    poisoned, other = await running(manager, "web1"), await running(manager, "web2")
    for vm in (poisoned, other):
        agent.vms[vm.id].state = "failed"
    agent.vms[poisoned.id].exit_reason = "\x00\ud800\x1b[2J"
    await reconciler.once()
    for name, reason in (("web1", "\ufffd\ufffd\ufffd[2J"), ("web2", "It ended for an unknown reason.")):
        await manager.until(name, "running")
        (died,) = [event for event in (await manager.admin.send(calls.vm_events(name))).items if event.reason == "VmDied"]
        assert died.message.endswith(reason)


@pytest.mark.parametrize("stolen", ["a\0b", "".join(random.Random(1).choices(string.ascii_letters, k=9000))])
async def test_volumes_of_a_stolen_host_do_not_block_other_hosts(manager: Any, reconciler: Reconciler, stolen: str) -> None:
    _, bad, _ = await manager.host("h1")
    _, good, _ = await manager.host("h2", first="10.0.0.20")
    bad.volumes, good.volumes = {stolen: 1}, {"data-of-h2": 1}
    await reconciler.once()
    assert [volume.name for volume in (await manager.admin.send(calls.list_volumes())).items] == ["data-of-h2"]


async def test_vms_of_a_stolen_host_do_not_block_other_hosts(manager: Any, reconciler: Reconciler) -> None:
    _, bad, _ = await manager.host("h1")
    _, good, _ = await manager.host("h2", first="10.0.0.20")
    bad.alive("v1", "a").ip = "\0"
    good.alive("v2", "b")
    await reconciler.once()
    assert [vm.id for vm in (await manager.admin.send(calls.list_unknown_vms())).items] == ["v2"]


async def test_host_whose_report_cannot_be_used_is_named_once(manager: Any, reconciler: Reconciler) -> None:
    _, bad, _ = await manager.host("h1")
    _, good, _ = await manager.host("h2", first="10.0.0.20")
    canary = bad.alive("v1", f"{CANARY_PREFIX}17-4711")
    canary.tags, canary.started_at = [CANARY_TAG], datetime(2026, 1, 1)
    good.alive("v2", "b")
    await reconciler.once()
    await reconciler.once()
    assert [vm.id for vm in (await manager.admin.send(calls.list_unknown_vms())).items] == ["v2"]
    assert (await reasons(manager, "h1")).count("ReportUnusable") == 1


async def test_failed_action_does_not_block_other_vms(manager: Any, reconciler: Reconciler, monkeypatch: Any) -> None:
    _, agent, _ = await manager.host()
    first, second = await running(manager, "web1"), await running(manager, "web2")
    for vm in (first, second):
        agent.vms[vm.id].state = "failed"
    agent.volumes = {"a\0b": 1}
    carry_out = acts.carry_out

    async def one_breaks(core: Any, action: Any, *more: Any) -> None:
        if getattr(action, "vm_id", "") == first.id:
            raise ValueError("nobody thought of that")
        await carry_out(core, action, *more)

    monkeypatch.setattr(acts, "carry_out", one_breaks)
    await reconciler.once()
    await manager.until("web2", "running")
    assert agent.vms[first.id].state == "failed"


async def test_agent_refusal_text_can_always_be_stored(manager: Any) -> None:
    _, agent, _ = await manager.host()
    agent.refuse = (422, "no\x00 VMM here")
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    failed = await manager.until("web1", lambda vm: vm.state is VmState.failed)
    assert failed.error == "No\ufffd VMM here."
    agent.refuse = (503, "not\x00 now")
    await manager.admin.send(calls.start_vm("web1"))
    put_off = await manager.until("web1", lambda vm: "again" in vm.error)
    assert "not\ufffd now" in put_off.error.lower()


async def test_reconciler_leaves_a_vm_stopped_after_a_clean_power_off(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager)
    agent.vms[vm.id].state = "stopped"
    await reconciler.once()
    found = await manager.admin.send(calls.get_vm("web1"))
    assert (found.state, found.desired_state.value, found.error) == (VmState.stopped, "stopped", "")
    assert await reconciler.once() == []


async def test_a_vm_whose_guest_rebooted_starts_again_and_did_not_die(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager)
    agent.vms[vm.id] = agent.vms[vm.id].model_copy(update={"state": "stopped", "rebooted": True, "exit_reason": REBOOTED})
    await reconciler.once()
    await manager.until("web1", "running")
    told = await reasons(manager, "web1")
    assert "VmRebooted" in told and "VmDied" not in told


async def test_reconciler_never_restarts_a_vm_with_policy_never(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager, restart_policy=RestartPolicy.never)
    agent.vms.pop(vm.id)
    await reconciler.once()
    found = await manager.admin.send(calls.get_vm("web1"))
    assert found.state is VmState.failed and found.error
    assert (await reasons(manager, "web1"))[0] == "VmDied"


async def test_autostart_after_a_host_reboot(
    manager: Any, reconciler: Reconciler, host_body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, agent, as_agent = await manager.host()
    await running(manager, "auto")
    await running(manager, "manual", autostart=False)
    agent.boot_id = "boot-2"
    await as_agent.send(calls.register(host_body("h1").model_copy(update={"boot_id": "boot-2"})))
    monkeypatch.setattr("nqrust.manager.core.boots.QUIET", timedelta(0))
    for vm in agent.vms.values():
        vm.state, vm.exit_reason = "failed", "the host went down"
    await reconciler.once()
    await manager.until("auto", "running")
    assert (await manager.admin.send(calls.get_vm("manual"))).state is VmState.stopped
    assert "VmAutostart" in await reasons(manager, "auto")


async def test_an_offline_hosts_vms_are_unknown_and_never_started_elsewhere(manager: Any, reconciler: Reconciler) -> None:
    joined, agent, _ = await manager.host("h1")
    _, other, _ = await manager.host("h2", memory_mib=1024, first="10.0.0.100")
    vm = await running(manager, host="h1")
    agent.away = True
    manager.core.started -= 3600
    await age(manager, joined.host_id, 60)
    await reconciler.once()
    assert (await manager.admin.send(calls.get_vm("web1"))).state is VmState.running
    assert (await manager.admin.send(calls.get_host("h1"))).state.value == "degraded"
    await age(manager, joined.host_id, 600)
    await reconciler.once()
    assert (await manager.admin.send(calls.get_vm("web1"))).state is VmState.unknown
    assert (await reasons(manager, "h1"))[:2] == ["HostOffline", "HostDegraded"]
    assert vm.id not in other.vms
    agent.away = False
    await reconciler.once()
    assert (await manager.admin.send(calls.get_vm("web1"))).state is VmState.running


async def age(manager: Any, host_id: str, seconds: int) -> None:
    async with manager.core.db.transaction() as session:
        await session.execute(
            text("UPDATE hosts SET last_seen_at = now() - make_interval(secs => :s) WHERE id = :id"),
            {"s": seconds, "id": host_id},
        )


async def test_a_vm_that_nobody_knows_runs_on_and_canaries_are_left_in_peace(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    agent.alive("young", "young", started_ago=10)
    agent.alive("old", "old", started_ago=86400)
    agent.alive("named", CANARY_PREFIX + "3-3", started_ago=86400)
    agent.alive("canary", CANARY_PREFIX + "1-1", started_ago=120).tags = [CANARY_TAG]
    agent.alive("stale", CANARY_PREFIX + "2-2", started_ago=3600).tags = [CANARY_TAG]
    await reconciler.once()
    states = {key: vm.state for key, vm in agent.vms.items()}
    assert states == {"young": "running", "old": "running", "named": "running", "canary": "running"}
    unknown = {one.id for one in (await manager.admin.send(calls.list_unknown_vms())).items}
    assert unknown == {"young", "old", "named"}, "a user may choose a canary's name"


async def test_returning_host_loses_only_deleted_vms(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager)
    agent.away = True
    await manager.admin.send(calls.delete_vm("web1", force=True))
    await manager.until("web1", "deleted")
    (deleted,) = [e for e in (await manager.admin.send(calls.list_events(subject=vm.id))).items if e.reason == "Deleted"]
    assert "did not answer" in deleted.message
    agent.away = False
    agent.alive("stranger", "stranger").state = "stopped"
    await reconciler.once()
    await reconciler.once()
    assert set(agent.vms) == {"stranger"}
    found = await reasons(manager, "h1")
    assert (found.count("UnknownVm"), found.count("DeleteFinished")) == (1, 1)


async def test_a_host_that_keeps_deleted_vms_fills_no_disk_with_events(
    manager: Any, reconciler: Reconciler, monkeypatch: Any
) -> None:
    _, agent, _ = await manager.host()
    monkeypatch.setattr("nqrust.manager.core.budgets.AT_ONCE", 2)
    agent.alive("kept", "kept")
    await reconciler.once()

    async def refuse(vm_id: str) -> None:
        raise AgentSaidNo(500, Problem(title="no", status=500, detail="no", code="NQR-API-710"))

    monkeypatch.setattr(agent, "delete_vm", refuse)
    with pytest.raises(Refused):
        await manager.admin.send(calls.delete_unknown_vm("kept"))
    for _ in range(5):
        await reconciler.once()
    assert (await reasons(manager, "h1")).count("DeleteFinished") == 2


async def test_the_tap_of_a_deleted_vm_is_removed_on_a_later_pass(manager: Any, reconciler: Reconciler, monkeypatch: Any) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager)
    await manager.admin.send(calls.delete_vm("web1"))
    await manager.until("web1", "deleted")
    agent.taps["tap1"] = TapStatus(name="tap1", vm_id=vm.id, bridge="fcbr0", up=True)
    agent.taps["tap2"] = TapStatus(name="tap2", vm_id="stranger", bridge="fcbr0", up=True)
    await reconciler.once()
    assert set(agent.taps) == {"tap1", "tap2"}
    monkeypatch.setattr("nqrust.manager.work.diff.TAP_GRACE", timedelta(0))
    await reconciler.once()
    await reconciler.once()
    assert set(agent.taps) == {"tap2"}, "nobody deleted that one's VM"
    assert (await reasons(manager, "h1")).count("UnknownTap") == 1


async def test_failed_delete_is_retried(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    await running(manager)
    agent.refuse = (422, "not now")
    await manager.admin.send(calls.delete_vm("web1"))
    await manager.until("web1", lambda vm: vm.state is VmState.failed)
    agent.refuse = None
    assert await reconciler.once() == [], "not right after it failed"
    async with manager.core.db.transaction() as session:
        await session.execute(text("UPDATE operations SET finished_at = finished_at - interval '5 min'"))
    await reconciler.once()
    await manager.until("web1", "deleted")
    assert agent.vms == {}


async def test_a_lost_placement_is_found_again(manager: Any, reconciler: Reconciler) -> None:
    joined, agent, _ = await manager.host()
    vm = await running(manager)
    async with manager.core.db.transaction() as session:
        await session.execute(text("UPDATE vms SET host_id = NULL, ip = NULL"))
    agent.vms[vm.id].ip = "10.0.0.10"
    await reconciler.once()
    found = await manager.admin.send(calls.get_vm("web1"))
    assert (found.host_id, found.ip, found.state) == (joined.host_id, "10.0.0.10", VmState.running)


async def test_found_vm_with_a_reused_address_gets_a_new_one_at_its_next_start(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager)
    async with manager.core.db.transaction() as session:
        await session.execute(text("UPDATE vms SET host_id = NULL, ip = NULL"))
    agent.vms[vm.id].ip = "10.0.0.11"
    assert (await running(manager, "web2")).ip == "10.0.0.11"
    await reconciler.once()
    found = await manager.admin.send(calls.get_vm("web1"))
    assert (found.host_id is not None, found.ip) == (True, None)
    await manager.admin.send(calls.restart_vm("web1"))
    again = await manager.until("web1", lambda seen: seen.ip is not None and seen.ip == agent.specs[vm.id].ip)  # first the row
    assert again.ip == "10.0.0.12", "without one it would have no address at all"


async def test_answer_from_the_wrong_host_is_ignored(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager)
    agent.host_id, agent.vms = "someone-else", {}
    assert await reconciler.once() == []
    assert (await manager.admin.send(calls.get_vm(vm.id))).state is VmState.running


async def test_a_vm_whose_hosts_disk_is_full_waits_for_its_agent(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager)
    full = {"state": "paused", "exit_reason": "The disk of host h1 is full. The VM continues when there is room."}
    agent.vms[vm.id] = agent.vms[vm.id].model_copy(update=full)
    agent.calls.clear()
    for _ in range(3):
        await reconciler.once()
    shown = await manager.admin.send(calls.get_vm("web1"))
    assert (shown.state, shown.desired_state, shown.error) == (VmState.paused, DesiredState.running, full["exit_reason"])
    told = [e for e in (await manager.admin.send(calls.vm_events("web1"))).items if e.reason == "DiskFull"]
    assert [(e.severity, e.message) for e in told] == [("warning", f"VM web1 paused: the disk of host {shown.host} is full.")]
    assert not [verb for verb, _ in agent.calls if verb == "resume"], "its agent does that, once there is room"
    agent.vms[vm.id] = agent.vms[vm.id].model_copy(update={"state": "running", "exit_reason": ""})
    await reconciler.once()
    shown = await manager.admin.send(calls.get_vm("web1"))
    assert (shown.state, shown.error) == (VmState.running, "")
    assert "Resumed" in await reasons(manager, "web1")


async def test_a_vm_without_room_can_be_paused_by_a_person(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    vm = await running(manager)
    full = {"state": "paused", "exit_reason": "The disk of host h1 is full."}
    agent.vms[vm.id] = agent.vms[vm.id].model_copy(update=full)
    await reconciler.once()
    agent.calls.clear()
    await manager.admin.send(calls.pause_vm("web1"))
    shown = await manager.until("web1", lambda found: found.observed_generation == found.generation)
    assert (shown.state, shown.desired_state, shown.error) == (VmState.paused, DesiredState.paused, "")
    assert ("pause", vm.id) in agent.calls
