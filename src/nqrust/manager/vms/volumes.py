"""Attaches volumes to existing VMs, and detaches them. The VM must be stopped.

The VM's row holds the wanted state: each of its volumes, and under `change` the pending work. Every request to the VM's agent
includes it, so nothing is lost if another operation replaces the first. The row records what the agent has confirmed. Until
then a volume belongs to the VM, and its letter is taken.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.agent import VmSpec
from nqrust.contract.hosts import HostCapacity
from nqrust.contract.names import kept_volume_name
from nqrust.contract.vms import DesiredState, VmState, VolumeCreate
from nqrust.contract.vms import Vm as ApiVm
from nqrust.contract.vms import Volume as ApiVolume
from nqrust.manager import events, operations
from nqrust.manager.core.core import Core
from nqrust.manager.errors import Conflict, NotFound
from nqrust.manager.store.tables import Host, Operation, Snapshot, Vm, Volume
from nqrust.manager.vms import placement
from nqrust.manager.vms import service as vms
from nqrust.manager.vms.schedule import promisable_mib
from nqrust.manager.volumes import service as volumes

_ACTOR = "system:volumes"


async def attach(core: Core, ref: str, wanted: VolumeCreate, actor: str) -> ApiVm:
    """Attach a volume under the first free letter. A VM without a host goes to the host of its kept volumes."""
    async with core.db.transaction() as session:
        vm = await _changeable(session, ref)
        taken = {volume.device for volume in vm.spec.volumes}
        device = next((one for one in volumes.DEVICES if one not in taken), None)
        if device is None:
            raise Conflict(
                f"VM {vm.name} has {len(taken)} volumes, which is the maximum.", cure="Detach a volume first.", code="NQR-API-129"
            )
        host = await session.get(Host, vm.host_id) if vm.host_id else None
        place = host.name if host else vm.wanted_host
        found, place = await volumes.take(core, session, vm.id, device, wanted, place, placed=host is not None)
        if host is None:  # nothing is made yet
            vm.wanted_host = place
        else:
            await _check_room(core, session, host, found)
            if found.name is None:
                # The letter may have belonged to another volume, whose file has that name.
                found.kept_as = f"{kept_volume_name(vm.name, device, vm.id)}-{vm.generation + 1}"
            found.change = "attaching"
        vm.change(volumes=sorted([*vm.spec.volumes, found], key=lambda volume: volume.device))
        events.record(session, vm, "VolumeAttaching", f"{events.name_of(actor)} requested volume {device} for VM {vm.name}.")
        return await _asked(core, session, vm, actor)


async def detach(
    core: Core, ref: str, device: str, data: Literal["keep", "delete"] | None, meant: str | None, actor: str
) -> ApiVm:
    """Detach a volume. The others keep their letters. `data`: keep or delete the data.

    None keeps a volume that is marked to be kept, and is refused for another. `meant`: name of the volume that the sender saw;
    another one may have got its letter since. None: not told. Raises NotFound, Conflict.
    """
    async with core.db.transaction() as session:
        vm = await _changeable(session, ref)
        volume = next((one for one in vm.spec.volumes if one.device == device), None)
        if volume is None or volume.change:
            raise NotFound(f"VM {vm.name} has no volume {device}.", cure="`nqr vm show` lists its volumes.")
        found = volume.kept_name(vm.name, vm.id)
        if meant not in (None, found):
            raise Conflict(
                f"Volume {device} of VM {vm.name} is {found} now, not {meant}.",
                cure="Look at the volumes of the VM, then try again.",
                code="NQR-API-146",
            )
        data = data or ("keep" if volume.keep or vm.host_id is None else None)
        if data is None:
            raise Conflict(
                f"Volume {device} of VM {vm.name} is not marked to be kept. Detaching it could lose its data.",
                cure="Choose `nqr volume detach --keep` or `--delete`.",
                code="NQR-API-130",
            )
        if vm.host_id is None:
            vm.change(volumes=[one for one in vm.spec.volumes if one is not volume])
            await _released(session, vm, volume, "keep")
        else:
            going = volume.model_copy(update={"change": "detaching", "data": data})
            vm.change(volumes=[going if one is volume else one for one in vm.spec.volumes])
        fate = "kept" if data == "keep" else "deleted"
        message = f"{events.name_of(actor)} requested the detach of volume {device} from VM {vm.name}; it will be {fate}."
        events.record(session, vm, "VolumeDetaching", message)
        return await _asked(core, session, vm, actor)


async def settled(session: AsyncSession, vm: Vm, host: Host, spec: VmSpec) -> None:
    """Record that the agent has carried out all of `spec`."""
    if not (spec.attached or spec.detached):
        return
    gone = {volume.device for volume in spec.detached}
    now_its = []
    for volume in vm.spec.volumes:
        change, device = volume.change, volume.device
        if change in ("detaching", "withdrawing") and device in gone:
            name = await _released(session, vm, volume, volume.data)
            if change == "detaching":
                fate = f"kept on host {host.name} as {name}" if volume.data == "keep" else "deleted with its data"
                events.record(session, vm, "VolumeDetached", f"Volume {device} of VM {vm.name} was detached and {fate}.")
        elif change == "attaching" and device in spec.attached:
            now_its.append(volumes.plain(volume))
            message = f"VM {vm.name} got a volume of {volume.size_mib} MiB as {device}."
            events.record(session, vm, "VolumeAttached", message)
        else:
            now_its.append(volume)
    vm.change(volumes=now_its)


async def went_back(session: AsyncSession, vm: Vm, operation: Operation) -> None:
    """Undo failed changes in the wanted state.

    A volume to attach may be on the host already: it is removed, and nobody has written to it. A volume to detach belongs to the
    VM again.
    """
    vm.change(volumes=[_undone(volume) for volume in vm.spec.volumes])
    if volumes.unsettled(vm) and operation.actor != _ACTOR:  # after that the reconciler repeats it when its host answers
        reason = vm.error
        await _enqueue(session, vm, _ACTOR)
        vm.error = reason


def _undone(volume: ApiVolume) -> ApiVolume:
    if volume.change == "attaching":
        return volume.model_copy(update={"change": "withdrawing", "data": "keep" if volume.name else "delete"})
    return volumes.plain(volume) if volume.change == "detaching" else volume


async def _changeable(session: AsyncSession, ref: str) -> Vm:
    """Return the VM, locked. Raises Conflict while its volumes cannot change."""
    vm = await vms.changeable(session, ref)
    if await operations.has_open(session, vm.id) or vm.state == VmState.unknown.value:
        starts = vm.desired_state != DesiredState.stopped.value
        raise Conflict(
            f"VM {vm.name} is {vm.state}: an operation is running, or its host does not answer.",
            cure="Stop the VM first." if starts else "Wait until the VM has stopped, then try again.",
            code="NQR-API-127" if starts else "NQR-API-111",
        )
    stopped = (vm.desired_state, vm.state) == (DesiredState.stopped.value, VmState.stopped.value)
    if not stopped and vm.state != VmState.failed.value:
        raise Conflict(
            f"VM {vm.name} is {vm.state}: volumes change only while the VM is stopped.",
            cure="Stop the VM first.",
            code="NQR-API-127",
        )
    saved = await session.scalar(select(func.count()).select_from(Snapshot).where(Snapshot.vm_id == vm.id))
    if saved:
        raise Conflict(
            f"VM {vm.name} has {saved} snapshot{'s' if saved > 1 else ''} of its current volumes.",
            cure="Delete its snapshots first: `nqr vm snapshot rm`.",
            code="NQR-API-128",
        )
    return vm


async def _check_room(core: Core, session: AsyncSession, host: Host, volume: ApiVolume) -> None:
    """Check the room as in placement. A kept volume already occupies its space; a capacity of 0 means not reported."""
    if volume.name is not None:
        return
    capacity = HostCapacity.stored(host.capacity)
    free = capacity.disk_available_mib
    if capacity.disk_mib:
        promised = (await placement.promised_disk(session)).get(host.id, 0)
        unpromised = max(0, promisable_mib(capacity.disk_mib, core.settings.disk_overcommit) - promised)
        if unpromised < volume.size_mib:
            raise Conflict(
                f"Host {host.name} has {unpromised} MiB of disk that is promised to no VM, {volume.size_mib} MiB are needed.",
                cure="Request less, delete VMs or volumes, or raise `manager.disk_overcommit`.",
                code="NQR-API-131",
            )
    if free and free < volume.size_mib:
        raise Conflict(
            f"Host {host.name} has {free} MiB of disk free, {volume.size_mib} MiB are needed.",
            cure="Request less, or free space on the host.",
            code="NQR-API-131",
        )


async def _asked(core: Core, session: AsyncSession, vm: Vm, actor: str) -> ApiVm:
    if vm.host_id is not None:
        await _enqueue(session, vm, actor)
    return await vms.woken(core, session, vm)


async def _enqueue(session: AsyncSession, vm: Vm, actor: str) -> None:
    """Record an operation. The VM's wanted state and the reason of its failure stay."""
    error = vm.error if vm.state == VmState.failed.value else ""
    await operations.enqueue(session, vm, "update", DesiredState(vm.desired_state), actor)
    vm.error = error


async def _released(session: AsyncSession, vm: Vm, volume: ApiVolume, data: str | None) -> str:
    """Mark the volume as detached or gone, and return its name."""
    name = volume.kept_name(vm.name, vm.id)
    row = await session.get(Volume, name, with_for_update=True)
    if row is not None and vm.host_id not in (None, row.host_id):
        return name  # only a stolen host names a volume of another host
    if row is not None and data == "keep":
        row.vm_id = None
    elif row is not None:
        await session.delete(row)
    elif data == "keep" and vm.host_id is not None:
        await volumes.insert_row(session, name, vm.host_id, volume.size_mib)
    return name
