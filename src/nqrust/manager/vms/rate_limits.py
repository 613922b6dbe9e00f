"""Rate limits of a VM, changed while it runs or before its next start."""

from __future__ import annotations

from nqrust.contract.vms import DesiredState, RateLimits, VmState
from nqrust.contract.vms import Vm as ApiVm
from nqrust.manager import events, operations
from nqrust.manager.core.core import Core
from nqrust.manager.errors import Conflict
from nqrust.manager.vms import service as vms


async def replace(core: Core, ref: str, wanted: RateLimits, actor: str) -> ApiVm:
    """Replace all limits of the VM. A running VM gets them at once."""
    async with core.db.transaction() as session:
        vm = await vms.changeable(session, ref)
        if vm.spec.rate_limits == wanted:
            return await vms.woken(core, session, vm)
        if await operations.has_open(session, vm.id) or vm.state == VmState.unknown.value:
            raise Conflict(
                f"VM {vm.name} is {vm.state}: an operation is running, or its host does not answer.",
                cure="Wait until the VM is running or stopped, then try again.",
                code="NQR-API-111",
            )
        before = vm.spec.model_dump(mode="json", include={"rate_limits"})
        vm.change(rate_limits=wanted)
        if vm.state in (VmState.running.value, VmState.paused.value):
            await operations.enqueue(session, vm, "update", DesiredState(vm.desired_state), actor, before)
        events.record(session, vm, "RateLimitsChanged", f"{events.name_of(actor)} changed the rate limits of VM {vm.name}.")
        return await vms.woken(core, session, vm)
