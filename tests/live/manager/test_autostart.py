"""VMs start with their host, also after a start that did not succeed: power that fails twice, and a bridge that is late."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from nqrust.client import calls
from nqrust.client.errors import WaitFailed
from nqrust.contract.vms import VmCreate, VmState
from nqrust.manager.clock import now
from nqrust.manager.store.tables import Host, Operation
from nqrust.manager.work import diff, drive
from nqrust.manager.work.reconciler import Reconciler


@pytest.fixture()
def reconciler(manager: Any, monkeypatch: pytest.MonkeyPatch) -> Reconciler:
    monkeypatch.setattr(diff, "RETRY_FAILED_AFTER", timedelta(0))
    monkeypatch.setattr(drive, "_SLOWEST_RETRY", timedelta(seconds=0.05))
    return Reconciler(manager.core)


async def running(manager: Any, name: str = "web1", **more: Any) -> Any:
    await manager.admin.send(calls.create_vm(VmCreate(name=name, image="tiny", **more)))
    return await manager.until(name, "running")


async def shown(manager: Any, name: str = "web1") -> tuple[VmState, str]:
    vm = await manager.admin.send(calls.get_vm(name))
    return vm.state, vm.error


async def boot(manager: Any, agent: Any, boot_id: str) -> None:
    """Boot the host. None of its VMs runs after that."""
    for one in agent.vms.values():
        one.state = "failed"
    agent.boot_id = boot_id
    async with manager.core.db.transaction() as session:
        await session.execute(update(Host).values(boot_id=boot_id))


async def time_is_up(manager: Any) -> None:
    async with manager.core.db.transaction() as session:
        open_ones = Operation.state.in_(("pending", "running"))
        await session.execute(update(Operation).where(open_ones).values(deadline=now() - timedelta(seconds=1)))


async def ended(manager: Any, name: str = "web1") -> Any:
    return await manager.until(name, lambda vm: vm.state in (VmState.stopped, VmState.failed), timeout=20)


async def test_a_start_that_a_second_power_cut_ended_is_made_good_once_the_host_answers(
    manager: Any, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, agent, _ = await manager.host()
    await running(manager)
    await boot(manager, agent, "boot-2")

    async def power_fails(spec: Any) -> Any:
        agent.away = True
        return await put_vm(spec)

    put_vm = agent.put_vm
    monkeypatch.setattr(agent, "put_vm", power_fails)
    await reconciler.once()
    await manager.until("web1", lambda vm: "again" in vm.error)
    monkeypatch.setattr(agent, "put_vm", put_vm)
    await time_is_up(manager)
    given_up = await ended(manager)
    assert (given_up.state, given_up.desired_state.value) == (VmState.stopped, "running")
    assert given_up.error == "The agent does not answer. The manager starts the VM once its host answers."
    assert await reconciler.once() == [], "not before it answers"
    agent.away = False
    await boot(manager, agent, "boot-3")
    await reconciler.once()
    await manager.until("web1", "running")


async def test_a_start_of_a_vm_without_autostart_is_given_up_for_good(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    await running(manager, autostart=False)
    await manager.admin.send(calls.stop_vm("web1"))
    await manager.until("web1", "stopped")
    agent.away = True
    asked = await manager.admin.send(calls.start_vm("web1"))
    await manager.until("web1", lambda vm: "again" in vm.error)
    await time_is_up(manager)
    with pytest.raises(WaitFailed, match="The agent does not answer"):
        await manager.admin.wait_for("web1", "running", 20, since=asked.generation)
    agent.away = False
    await boot(manager, agent, "boot-2")
    assert await reconciler.once() == []
    assert (await shown(manager))[0] is VmState.failed


async def test_a_vm_that_is_only_to_be_made_fails_on_a_host_that_does_not_answer(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    agent.away = True
    made = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", start=False)))
    await manager.until("web1", lambda vm: "again" in vm.error)
    await time_is_up(manager)
    with pytest.raises(WaitFailed, match=r"The agent does not answer\.$"):
        await manager.admin.wait_for("web1", "stopped", 20, since=made.generation)
    agent.away = False
    assert await reconciler.once() == []


async def test_a_bridge_that_is_late_at_a_boot_holds_up_no_vm(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    await running(manager)
    await boot(manager, agent, "boot-2")
    agent.refuse = (503, "The bridge fcbr0 is not there.")
    agent.calls.clear()
    await reconciler.once()

    def asked_often(vm: Any) -> bool:
        return agent.calls.count(("put", vm.id)) > drive._TRIES_WHEN_REFUSED + 1

    assert (await manager.until("web1", asked_often)).state is VmState.starting
    agent.refuse = None
    assert (await manager.until("web1", "running")).error == ""


async def test_a_persons_start_is_refused_soon(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    await running(manager)
    await manager.admin.send(calls.stop_vm("web1"))
    await manager.until("web1", "stopped")
    agent.refuse = (503, "The bridge fcbr0 is not there.")
    agent.calls.clear()
    await manager.admin.send(calls.start_vm("web1"))
    assert (await ended(manager)).state is VmState.failed
    assert [verb for verb, _ in agent.calls].count("put") == drive._TRIES_WHEN_REFUSED


async def test_a_vm_whose_start_failed_starts_at_the_next_boot_of_its_host(manager: Any, reconciler: Reconciler) -> None:
    _, agent, _ = await manager.host()
    await running(manager)
    await running(manager, "manual", autostart=False)
    await boot(manager, agent, "boot-2")
    agent.refuse = (422, "no VMM here")
    await reconciler.once()
    await manager.until("web1", lambda vm: vm.state is VmState.failed)
    await manager.admin.send(calls.start_vm("manual"))
    await manager.until("manual", lambda vm: vm.state is VmState.failed)
    agent.refuse = None
    assert await reconciler.once() == [], "only a person or a boot tries again"
    await boot(manager, agent, "boot-3")
    await reconciler.once()
    await manager.until("web1", "running")
    assert (await shown(manager, "manual"))[0] is VmState.failed
