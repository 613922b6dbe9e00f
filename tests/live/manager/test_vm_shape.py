"""A field of `VmFields` is on the whole way of a VM: template, request, row, agent, list, adoption."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from nqrust.client import calls
from nqrust.contract.agent import VmSpec
from nqrust.contract.templates import TemplateCreate
from nqrust.contract.vms import NetworkConfig, RateLimits, RestartPolicy, Vm, VmCreate, VmFields
from nqrust.manager.work.reconciler import Reconciler

OTHER: dict[str, Any] = {
    "autostart": False,
    "restart_policy": RestartPolicy.always,
    "tags": ["web"],
    "rate_limits": RateLimits(disk_iops=500),
    "network_config": NetworkConfig.image,
    "guest_exec": False,
}
"""A value for every field that is not its default."""


def fields(of: Vm | VmSpec) -> dict[str, Any]:
    return {name: getattr(of, name) for name in VmFields.model_fields}


async def test_template_settings_reach_the_vm_and_survive_adoption(manager: Any) -> None:
    assert OTHER.keys() == VmFields.model_fields.keys()
    _, agent, _ = await manager.host()
    await manager.admin.send(calls.create_template(TemplateCreate(name="t1", image="tiny", **OTHER)))
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", template="t1")))
    assert fields(vm) == OTHER
    await manager.until("web1", "running")
    assert fields(agent.specs[vm.id]) == OTHER
    async with manager.core.db.transaction() as session:
        await session.execute(text("DELETE FROM vms"))
    await Reconciler(manager.core).once()
    assert fields(await manager.admin.send(calls.adopt_vm("web1"))) == OTHER
    assert fields((await manager.admin.send(calls.list_vms())).items[0]) == OTHER


async def test_a_row_older_than_a_field_shows_its_default(manager: Any) -> None:
    await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", tags=["web"])))
    await manager.until("web1", "running")
    async with manager.core.db.transaction() as session:
        await session.execute(text("UPDATE vms SET spec = spec - 'tags'"))
    assert (await manager.admin.send(calls.get_vm("web1"))).tags == []
    assert (await manager.admin.send(calls.list_vms())).items[0].tags == []
