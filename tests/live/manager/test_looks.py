"""A VM's record lags behind its host. The manager never reports a dead VM as running."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from nqrust.client import calls
from nqrust.client.manager import WaitFailed
from nqrust.contract.vms import RestartPolicy, VmCreate, VmState
from nqrust.manager.work.reconciler import Reconciler


async def running(manager: Any, **more: Any) -> tuple[Any, Any]:
    _, agent, _ = await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", **more)))
    return agent, await manager.until("web1", "running")


async def test_a_start_of_a_vm_that_died_unnoticed_starts_it(manager: Any) -> None:
    agent, vm = await running(manager)
    for dead in ("failed", "stopped"):
        agent.vms[vm.id].state = dead
        assert (await manager.admin.send(calls.get_vm("web1"))).state is VmState.running, "the row does not know yet"
        asked = await manager.admin.send(calls.start_vm("web1"))
        started = await manager.admin.wait_for("web1", "running", 10, since=asked.generation)
        assert started is not None and agent.vms[vm.id].state == "running"


async def test_a_start_of_a_vm_that_runs_changes_nothing(manager: Any) -> None:
    agent, vm = await running(manager)
    agent.calls.clear()
    asked = await manager.admin.send(calls.start_vm("web1"))
    found = await manager.admin.wait_for("web1", "running", 10, since=asked.generation)
    assert (found.generation, found.started_at) == (vm.generation, vm.started_at)
    assert {verb for verb, _ in agent.calls} == {"get"}


async def test_a_stop_of_a_vm_that_runs_unnoticed_stops_it(manager: Any) -> None:
    agent, vm = await running(manager)
    await manager.admin.send(calls.stop_vm("web1"))
    await manager.until("web1", "stopped")
    agent.alive(vm.id, "web1")
    asked = await manager.admin.send(calls.stop_vm("web1"))
    await manager.admin.wait_for("web1", "stopped", 10, since=asked.generation)
    assert agent.vms[vm.id].state == "stopped"


async def test_a_wait_ends_in_failure_when_the_vm_dies_meanwhile(manager: Any) -> None:
    agent, vm = await running(manager)

    async def dies() -> None:
        await asyncio.sleep(0.5)
        agent.vms[vm.id].state, agent.vms[vm.id].exit_reason = "failed", "The guest's kernel panicked: no init"

    for condition in ("guest_up", "running"):
        asked = await manager.admin.send(calls.start_vm("web1"))
        death = asyncio.create_task(dies())
        with pytest.raises(WaitFailed, match="no init"):
            await manager.admin.wait_for("web1", condition, 30, since=asked.generation, steady=2.0)
        await death
        await manager.admin.send(calls.start_vm("web1"))
        await manager.until("web1", lambda seen: seen.observed_generation == seen.generation)


async def test_vm_start_fails_when_the_guest_powers_off(manager: Any) -> None:
    agent, vm = await running(manager, restart_policy=RestartPolicy.on_failure)
    agent.vms[vm.id].state = "stopped"
    with pytest.raises(WaitFailed, match="stopped"):
        await manager.admin.wait_for("web1", "running", 30, since=vm.generation)


async def test_a_wait_goes_on_while_the_guest_reboots(manager: Any) -> None:
    """As cloud-init does in a first boot."""
    manager.core.settings = replace(manager.core.settings, reconciler_disabled=False)
    agent, vm = await running(manager)
    status = agent.vms[vm.id]
    status.state, status.rebooted, status.exit_reason, status.started_at = "stopped", True, "The guest rebooted.", None
    waiting = asyncio.create_task(manager.admin.wait_for("web1", "running", 30, since=vm.generation, steady=2.0))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    await Reconciler(manager.core).once()
    again = await waiting
    assert again is not None and agent.vms[vm.id].state == "running"


async def test_fresh_vm_read_shows_the_host_state_and_writes_nothing(manager: Any) -> None:
    agent, vm = await running(manager)
    agent.vms[vm.id].state, agent.vms[vm.id].exit_reason = "failed", "The VMM ended after signal 9."
    fresh = await manager.admin.send(calls.get_vm("web1", fresh=True))
    assert (fresh.state, fresh.error, fresh.started_at) == (VmState.failed, "The VMM ended after signal 9.", None)
    assert (await manager.admin.send(calls.get_vm("web1"))).state is VmState.running
    agent.away = True
    fresh = await manager.admin.send(calls.get_vm("web1", fresh=True))
    assert fresh.state is VmState.unknown and "does not tell" in fresh.error


async def test_vm_state_is_right_with_the_reconciler_off(manager: Any) -> None:
    agent, vm = await running(manager)
    observer = Reconciler(manager.core, acts=False)
    agent.vms[vm.id].state, agent.vms[vm.id].exit_reason = "failed", "The VMM ended after signal 9."
    agent.calls.clear()
    for _ in range(2):
        await observer.once()
    found = await manager.admin.send(calls.get_vm("web1"))
    assert (found.state, found.desired_state.value, found.error) == (VmState.stopped, "running", "The VMM ended after signal 9.")
    assert {verb for verb, _ in agent.calls} == {"inventory"}
    await manager.admin.send(calls.start_vm("web1"))
    assert (await manager.until("web1", "running")).error == ""
