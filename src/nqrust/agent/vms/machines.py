"""The machine that a VMM is to run, from the VM's record."""

from __future__ import annotations

from nqrust.agent.disks import volumes
from nqrust.agent.disks import writers as disk_writers
from nqrust.agent.disks.blobs import Blobs
from nqrust.agent.store import Store, VmRecord
from nqrust.agent.vmm.port import Machine, Vmm, largest_saved
from nqrust.contract.agent import ImageRef
from nqrust.host.port import Host


def of(host: Host, store: Store, blobs: Blobs, record: VmRecord, driver: Vmm, accel: str, snapshot: str | None) -> Machine:
    """Return the machine with all paths on this host. `snapshot`: the folder that it starts from, or None.

    Raises Failed: a volume is gone, or the image's kernel is not available."""
    image = record.image
    elf = image.kernel_elf if driver.capabilities.elf_kernel else None
    return Machine(
        id=record.id,
        name=record.name,
        vcpus=record.vcpus,
        memory_mib=record.memory_mib,
        directory=store.directory(record.id),
        disk=store.disk(record.id),
        kernel=blobs.cached(image.name, image.kernel),
        kernel_elf=blobs.cached(image.name, elf) if elf else None,
        initrd=blobs.cached(image.name, image.initrd) if image.initrd else None,
        cmdline=disk_writers.command_line(image),
        root_device=image.root_device,
        mac=record.mac,
        tap=record.tap,
        user=record.user,
        accel=accel,
        volumes=volumes.paths(host, store, record),
        rate_limits=record.rate_limits,
        snapshot=snapshot,
        guest_exec=record.guest_exec,
    )


def largest_file(host: Host, machine: Machine, disk_mib: int) -> int:
    """Return the bytes that no file of the VM's processes may exceed: its longest disk, or its saved memory.

    `disk_mib`: of the VM's own disk, which may still grow to that."""
    found = [host.stat(path) for path in (machine.disk, *machine.volumes)]
    return max(largest_saved(machine.memory_mib), disk_mib << 20, *(one.size for one in found if one))


def image_of_disk(blobs: Blobs, driver: Vmm, wanted: ImageRef, before: ImageRef) -> ImageRef:
    """Return the image that a disk of `before` boots with: its modules fit its own kernel only.

    `wanted`: the present version. The kernel is of this one if the former is nowhere, such as after a restore without the cache.
    """
    # Before 0.3.0, hosts with QEMU kept no ELF kernel.
    needed = [blob for blob in before.boot_files if blob is not before.kernel_elf or driver.capabilities.elf_kernel]
    if wanted == before or all(blobs.here(before.name, blob) for blob in needed):
        return before
    return before.model_copy(update={name: getattr(wanted, name) for name in ("name", "kernel", "kernel_elf", "initrd")})
