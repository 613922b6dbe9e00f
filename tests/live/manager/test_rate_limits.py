"""Rate limits through the API: on record, given to the host, and back where the host cannot."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.vms import RateLimits, VmCreate
from nqrust.manager import operations

LIMITS = RateLimits(net_rx_kbit=100_000, disk_iops=500)


async def running(manager: Any, **more: Any) -> tuple[Any, Any]:
    _, agent, _ = await manager.host()
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", **more)))
    await manager.until("web1", "running")
    await idle(manager, vm.id)
    return agent, vm


async def idle(manager: Any, vm_id: str) -> None:
    for _ in range(200):
        async with manager.core.db.transaction() as session:
            if not await operations.has_open(session, vm_id):
                return
        await asyncio.sleep(0.02)
    raise AssertionError("an operation stays open")


async def test_operator_sets_rate_limits_at_creation_and_on_a_running_vm(manager: Any) -> None:
    agent, vm = await running(manager, rate_limits=LIMITS)
    assert agent.specs[vm.id].rate_limits == vm.rate_limits == LIMITS
    less = RateLimits(net_tx_kbit=64)
    assert (await manager.admin.send(calls.set_rate_limits("web1", less))).rate_limits == less
    await manager.until("web1", lambda v: agent.specs[vm.id].rate_limits == less)
    assert not agent.specs[vm.id].run
    await idle(manager, vm.id)
    await manager.admin.send(calls.set_rate_limits("web1", RateLimits()))
    await manager.until("web1", lambda v: agent.specs[vm.id].rate_limits == RateLimits())
    listed = (await manager.admin.send(calls.list_vms())).items[0]
    assert listed.rate_limits == RateLimits()
    events = (await manager.admin.send(calls.list_events(subject="web1"))).items
    assert [event.reason for event in events].count("RateLimitsChanged") == 2


async def test_manager_does_not_ask_the_agent_for_unchanged_rate_limits(manager: Any) -> None:
    agent, _ = await running(manager, rate_limits=LIMITS)
    before = len(agent.calls)
    await manager.admin.send(calls.set_rate_limits("web1", LIMITS))
    await asyncio.sleep(0.2)
    assert len(agent.calls) == before


async def test_vm_keeps_its_rate_limits_when_the_host_refuses_a_change(manager: Any) -> None:
    agent, _ = await running(manager)
    agent.refuse = (422, "This host cannot limit the VM's network")
    await manager.admin.send(calls.set_rate_limits("web1", LIMITS))
    after = await manager.until("web1", lambda v: bool(v.error))
    assert (after.state.value, after.rate_limits) == ("running", RateLimits())
    assert "cannot limit" in after.error


async def test_viewer_cannot_change_rate_limits(manager: Any) -> None:
    await running(manager)
    with pytest.raises(Refused) as refused:
        await (await manager.role("viewer")).send(calls.set_rate_limits("web1", LIMITS))
    assert refused.value.status == 403


@pytest.mark.parametrize("limits", [{"net_rx_kbit": 0}, {"net_tx_kbit": 10**9}, {"disk_kib": 1}, {"disk_iops": -1}])
def test_manager_refuses_invalid_rate_limits(limits: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        RateLimits.model_validate(limits)
