"""Resumes VMs that their VMM paused because the host's disk is full, and those that an interrupted snapshot left paused.

QEMU stops the guest when a write finds no room, and repeats the write when the guest is resumed. Nothing is lost in between.
Under Firecracker the guest gets an I/O error.
"""

from __future__ import annotations

from nqrust.agent.disks.reserve import reserve
from nqrust.agent.errors import AgentError
from nqrust.agent.store import VmRecord
from nqrust.agent.vmm.port import RunState, Vmm
from nqrust.agent.vms import holds
from nqrust.agent.vms.service import VmService
from nqrust.host.errors import HostError


def may_wait(service: VmService) -> list[str]:
    """Return the running VMs whose VMM pauses them for lack of room."""
    return sorted(vm_id for vm_id in service.scopes.all() if _pauses(service, service.store.read(vm_id)) is not None)


def go_on(service: VmService, vm_id: str) -> bool:
    """Resume the VM if its disk's file system has room. Return whether it was resumed. Its state is checked again."""
    directory = service.store.directory(vm_id)
    try:
        usage = service.host.disk_usage(directory)
        if usage.available < reserve(usage) or not _waits(service, vm_id):
            return False
        _, driver = service.running(vm_id)
        driver.resume(directory)
    except (AgentError, HostError):
        return False  # it ended, or its monitor does not answer: the next look tells
    return True


def frozen(service: VmService) -> list[str]:
    """Return the VMs that a snapshot paused, or was about to."""
    return sorted(vm_id for vm_id in service.store.ids() if holds.frozen(service.host, service.store.directory(vm_id)))


def thaw(service: VmService, vm_id: str) -> bool:
    """Resume a VM that an interrupted snapshot left paused. Return whether it was resumed. Call it while no verb is at work on it."""
    try:
        directory, driver = service.running(vm_id)
        state = driver.state(directory)
        if not holds.frozen(service.host, directory) or state not in (RunState.paused, RunState.running):
            return False
        holds.thaw(service.host, driver, directory) if state is RunState.paused else holds.melt(service.host, directory)
    except (AgentError, HostError):
        return False  # as above
    return state is RunState.paused


def _pauses(service: VmService, record: VmRecord | None) -> Vmm | None:
    driver = service.drivers.get(record.vmm) if record else None
    return driver if driver is not None and driver.capabilities.waits_for_room else None


def _waits(service: VmService, vm_id: str) -> bool:
    """Whether the VMM paused the VM, and nobody holds it."""
    driver = _pauses(service, service.store.read(vm_id))
    directory = service.store.directory(vm_id)
    return driver is not None and driver.state(directory) is RunState.no_room and not holds.held(service.host, directory)
