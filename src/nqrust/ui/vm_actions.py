"""Actions on a VM, from the list and from its own page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nqrust.client import calls
from nqrust.client.manager import AsyncManagerClient
from nqrust.contract.vms import StopRequest, Vm, VmState
from nqrust.ui import parts

After = Callable[[], Awaitable[None]]
_DOWN = (VmState.stopped, VmState.failed)
_UP = (VmState.running, VmState.starting)


def possible(vm: Vm) -> set[str]:
    """Return the verbs that make sense in a VM's state."""
    verbs = {"delete"} if vm.state is not VmState.deleting else set()
    if vm.state in _DOWN:
        verbs.add("start")
    if vm.state in _UP:
        verbs |= {"stop", "restart"}
    if vm.state is VmState.running:
        verbs.add("pause")
    if vm.state is VmState.paused:
        verbs |= {"resume", "stop"}
    if vm.state is VmState.stopping:
        verbs.add("force-stop")
    return verbs


class VmActions:
    """Carries out verbs on VMs, tells the user, and then calls `after` (which shows the new state).

    A dialog can stay open for long. So each request names its VM by the id: the name may be another VM's by then."""

    def __init__(self, manager: AsyncManagerClient, after: After, gone: Callable[[], None] | None = None) -> None:
        self._manager, self._after, self._gone = manager, after, gone

    async def start(self, vm: Vm) -> None:
        await self._do(self._manager.send(calls.start_vm(vm.id)), f"Starting {vm.name}.")

    async def resume(self, vm: Vm) -> None:
        await self._do(self._manager.send(calls.resume_vm(vm.id)), f"{vm.name} resumed.")

    async def pause(self, vm: Vm) -> None:
        await self._do(self._manager.send(calls.pause_vm(vm.id)), f"{vm.name} is paused.")

    async def stop(self, vm: Vm) -> None:
        if await parts.confirm(
            f"Stop {vm.name}?", "The guest gets 20 seconds to shut down. Then the VM is switched off.", "Stop"
        ):
            await self._do(self._manager.send(calls.stop_vm(vm.id)), f"Stopping {vm.name}.")

    async def force_stop(self, vm: Vm) -> None:
        if await parts.confirm(
            f"Switch {vm.name} off?", "Stops the VM without asking the guest. Unwritten data is lost.", "Switch off"
        ):
            await self._do(self._manager.send(calls.stop_vm(vm.id, StopRequest(force=True))), f"Switching {vm.name} off.")

    async def restart(self, vm: Vm) -> None:
        if await parts.confirm(f"Restart {vm.name}?", "The guest shuts down, then the VM starts again.", "Restart"):
            await self._do(self._manager.send(calls.restart_vm(vm.id)), f"Restarting {vm.name}.")

    async def delete(self, vm: Vm) -> None:
        if not await parts.confirm(f"Delete {vm.name}?", "This switches the VM off and deletes its disk permanently.", "Delete"):
            return
        if await self._do(self._manager.send(calls.delete_vm(vm.id)), f"Deleting {vm.name}.") and self._gone is not None:
            self._gone()

    async def _do(self, call: Awaitable[Any], said: str) -> bool:
        return await parts.carry_out(call, said, self._after)
