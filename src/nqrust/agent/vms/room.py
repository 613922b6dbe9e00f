"""Resumes VMs that their VMM paused because the host's disk is full.

QEMU stops the guest when a write finds no room, and repeats the write when the guest is resumed. Nothing is lost in between.
Under Firecracker the guest gets an I/O error.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from nqrust.agent.disks.reserve import reserve
from nqrust.agent.errors import AgentError
from nqrust.agent.vmm.port import RunState
from nqrust.agent.vms import holds
from nqrust.agent.vms.service import VmService
from nqrust.host.errors import HostError


def waiting(service: VmService) -> list[str]:
    """Return the VMs that their VMM paused and nobody holds."""
    # In parallel, as for the inventory: a hanging VMM delays only its own answer.
    ids = sorted(service.scopes.all())
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="room") as pool:
        return [vm_id for vm_id, waits in zip(ids, pool.map(lambda vm: _waits(service, vm), ids), strict=True) if waits]


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


def _waits(service: VmService, vm_id: str) -> bool:
    record = service.store.read(vm_id)
    driver = service.drivers.get(record.vmm) if record else None
    if driver is None or not driver.capabilities.waits_for_room:
        return False
    directory = service.store.directory(vm_id)
    return driver.state(directory) is RunState.no_room and not holds.held(service.host, directory)
