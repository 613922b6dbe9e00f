"""Ports of hosts that lead to VMs: on record, given to the agent, each port once on a host."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, text

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.hosts import HostNetwork
from nqrust.contract.vms import PortForward, VmCreate
from nqrust.manager.store.tables import Host
from nqrust.manager.work import diff
from nqrust.manager.work.reconciler import Reconciler

WEB = PortForward(host_port=8080, guest_port=80)
SSH = PortForward(host_port=2222, guest_port=22)


async def test_port_forwards_are_set_at_creation_and_changed_on_a_running_vm(manager: Any) -> None:
    _, agent, _ = await manager.host()
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", forwards=[WEB])))
    assert (await manager.until("web1", "running")).forwards == [WEB]
    assert agent.specs[vm.id].forwards == [WEB]
    changed = await manager.admin.send(calls.set_forwards("web1", [SSH, WEB]))
    assert changed.forwards == [SSH, WEB], "in the order of ports"
    await manager.until("web1", lambda v: agent.specs[vm.id].forwards == [SSH, WEB])
    assert agent.vms[vm.id].state == "running"
    await manager.until("web1", lambda v: not v.error)
    await _idle(manager, vm.id)
    assert (await manager.admin.send(calls.set_forwards("web1", []))).forwards == []
    await manager.until("web1", lambda v: agent.specs[vm.id].forwards == [])


async def test_stopped_vm_gets_new_port_forwards_at_its_next_start(manager: Any) -> None:
    _, agent, _ = await manager.host()
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", start=False)))
    await manager.until("web1", "stopped")
    await _idle(manager, vm.id)
    await manager.admin.send(calls.set_forwards("web1", [WEB]))
    assert agent.specs[vm.id].forwards == []
    await manager.admin.send(calls.start_vm("web1"))
    await manager.until("web1", "running")
    assert agent.specs[vm.id].forwards == [WEB]


async def test_a_port_leads_to_one_vm_of_a_host(manager: Any) -> None:
    await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", forwards=[WEB])))
    await manager.until("web1", "running")
    with pytest.raises(Refused, match="forwards port 8080/tcp to VM web1 already"):
        await manager.admin.send(calls.create_vm(VmCreate(name="web2", image="tiny", forwards=[WEB])))
    third = await manager.admin.send(calls.create_vm(VmCreate(name="web3", image="tiny")))
    await manager.until("web3", "running")
    await _idle(manager, third.id)
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.set_forwards("web3", [WEB]))
    assert (refused.value.status, refused.value.code) == (409, "NQR-API-121")
    await manager.host("h2")
    await manager.admin.send(calls.create_vm(VmCreate(name="web4", image="tiny", forwards=[WEB])))
    assert (await manager.until("web4", "running")).host == "h2", "the scheduler looks for a host with the port free"


async def test_a_port_of_a_vm_without_a_record_leads_to_no_other(manager: Any) -> None:
    """The host still forwards this port and would refuse a second VM."""
    _, agent, _ = await manager.host()
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", forwards=[WEB])))
    await manager.until("web1", "running")
    await manager.admin.send(calls.create_vm(VmCreate(name="web2", image="tiny")))
    other = await manager.until("web2", "running")
    await _idle(manager, other.id)
    async with manager.core.db.transaction() as session:
        await session.execute(text("DELETE FROM vms WHERE name = 'web1'"))
    reconciler = Reconciler(manager.core)
    await reconciler.once()
    agent.calls.clear()
    with pytest.raises(Refused, match="forwards port 8080/tcp to VM web1 already") as refused:
        await manager.admin.send(calls.set_forwards("web2", [WEB]))
    assert (refused.value.status, refused.value.code) == (409, "NQR-API-121")
    with pytest.raises(Refused, match="forwards port 8080/tcp to VM web1 already"):
        await manager.admin.send(calls.create_vm(VmCreate(name="web3", image="tiny", forwards=[WEB])))
    assert agent.calls == [], "the host is not asked"
    assert (await manager.admin.send(calls.adopt_vm(vm.id))).forwards == [WEB]
    await manager.admin.send(calls.delete_vm("web1"))
    await manager.until(vm.id, "deleted")
    assert (await manager.admin.send(calls.set_forwards("web2", [WEB]))).forwards == [WEB]


async def test_a_port_that_the_host_keeps_is_refused_before_anything_is_made(manager: Any) -> None:
    await manager.host()
    await _keep(manager, 22, 18080)
    ssh = PortForward(host_port=22, guest_port=22)
    with pytest.raises(Refused, match="Host h1 keeps port 22/tcp for the platform and for SSH") as refused:
        await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", forwards=[WEB, ssh])))
    assert refused.value.cure.startswith("Choose other ports of the host")
    assert (await manager.admin.send(calls.list_vms())).items == []
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", forwards=[WEB])))
    await manager.until("web1", "running")
    await _idle(manager, vm.id)
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.set_forwards("web1", [WEB, ssh]))
    assert (refused.value.status, refused.value.code) == (409, "NQR-API-121")
    dns = PortForward(host_port=22, guest_port=53, protocol="udp")
    assert (await manager.admin.send(calls.set_forwards("web1", [dns]))).forwards == [dns], "the host keeps TCP ports"


async def test_a_vm_keeps_a_forward_that_its_host_would_refuse_today(manager: Any) -> None:
    await manager.host()
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", forwards=[WEB])))
    await manager.until("web1", "running")
    await _idle(manager, vm.id)
    await _keep(manager, WEB.host_port)
    more = PortForward(host_port=9090, guest_port=90)
    assert (await manager.admin.send(calls.set_forwards("web1", [WEB, more]))).forwards == [WEB, more]


async def _keep(manager: Any, *ports: int) -> None:
    """What hosts say when they register."""
    async with manager.core.db.transaction() as session:
        for host in await session.scalars(select(Host)):
            host.network = HostNetwork.model_validate({**host.network, "kept_ports": list(ports)}).model_dump(mode="json")


async def test_duplicate_port_forward_is_refused(manager: Any) -> None:
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", forwards=[WEB, WEB])))
    assert refused.value.status == 422


async def test_port_forwards_that_the_host_refuses_are_not_recorded(manager: Any) -> None:
    _, agent, _ = await manager.host()
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    await manager.until("web1", "running")
    await _idle(manager, vm.id)
    agent.refuse = (422, "Port 8080/tcp of this host is in use")
    await manager.admin.send(calls.set_forwards("web1", [WEB]))
    after = await manager.until("web1", lambda v: bool(v.error))
    assert (after.state.value, after.forwards) == ("running", [])
    assert "in use" in after.error


async def test_the_reconciler_gives_a_host_the_forwards_it_lost(manager: Any) -> None:
    _, agent, _ = await manager.host()
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", forwards=[WEB])))
    await manager.until("web1", "running")
    await _idle(manager, vm.id)
    agent.vms[vm.id].forwards = []
    actions = await Reconciler(manager.core).once()
    assert [action.kind for action in actions if isinstance(action, diff.Repeat)] == ["update"]
    await manager.until("web1", lambda v: agent.vms[vm.id].forwards == [WEB])


async def _idle(manager: Any, vm_id: str) -> None:
    """Until no operation is open."""
    import asyncio

    from nqrust.manager import operations

    for _ in range(200):
        async with manager.core.db.transaction() as session:
            if not await operations.has_open(session, vm_id):
                return
        await asyncio.sleep(0.02)
    raise AssertionError("an operation stays open")
