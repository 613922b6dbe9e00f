"""Port forwards: each port of a host leads to one VM. The lock on hosts keeps two VMs from getting the same port."""

from __future__ import annotations

from nqrust.contract.vms import DesiredState, PortForward, VmState
from nqrust.contract.vms import Vm as ApiVm
from nqrust.manager import events, operations
from nqrust.manager.core.core import Core
from nqrust.manager.errors import Conflict
from nqrust.manager.vms import placement, ports
from nqrust.manager.vms import service as vms


async def replace(core: Core, ref: str, wanted: list[PortForward], actor: str) -> ApiVm:
    """Replace all forwards of the VM. A running VM gets them at once."""
    forwards = ports.in_order(wanted)
    async with core.db.transaction() as session:
        hosts = await placement.lock_hosts(session)
        vm = await vms.changeable(session, ref)
        if vm.spec.forwards == forwards:
            return await vms.woken(core, session, vm)
        if await operations.has_open(session, vm.id) or vm.state == VmState.unknown.value:
            raise Conflict(
                f"VM {vm.name} is {vm.state}: an operation is running, or its host does not answer.",
                cure="Wait until the VM is running or stopped, then try again.",
                code="NQR-API-111",
            )
        had, before = vm.spec.forwards, vm.spec.model_dump(mode="json", include={"forwards"})
        vm.change(forwards=forwards)
        mine = [host for host in hosts if host.id == vm.host_id]
        if forwards and (reason := (await ports.why_not(session, vm, mine, had)).get(vm.host_id or "")):
            raise Conflict(f"Host {mine[0].name} {reason}.", cure="Choose another port.", code="NQR-API-121")
        if vm.state in (VmState.running.value, VmState.paused.value):
            await operations.enqueue(session, vm, "update", DesiredState(vm.desired_state), actor, before)
        events.record(
            session, vm, "ForwardsChanged", f"{events.name_of(actor)} set {len(forwards)} port forwards for VM {vm.name}."
        )
        return await vms.woken(core, session, vm)
