"""Adopts a VM: creates its row from its host's record. The VM is not touched and continues to run.

A host has only the hash of the guest's token, so the row gets a new token. The host still accepts the running guest's token;
the next start writes the new one into the disk.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.agent import BELIEVED_GENERATION, VmDocument
from nqrust.contract.credentials import hash_token, new_token
from nqrust.contract.names import kept_volume_name
from nqrust.contract.text import named, plain
from nqrust.contract.unknown_vms import VmAdopt
from nqrust.contract.vms import DesiredState, VmKept, VmState
from nqrust.contract.vms import Vm as ApiVm
from nqrust.manager import events, operations
from nqrust.manager.core.agents import AgentSaidNo
from nqrust.manager.core.core import Core
from nqrust.manager.errors import Conflict, Invalid
from nqrust.manager.store.tables import Host, Image, Snapshot, Tombstone, Vm, Volume
from nqrust.manager.unknown_vms import service as unknown_vms
from nqrust.manager.vms import observing
from nqrust.manager.vms import service as vms
from nqrust.manager.volumes import service as volumes


async def adopt(core: Core, wanted: VmAdopt, actor: str) -> ApiVm:
    """Adopt a VM.

    Raises NotFound, Conflict (its name, address or volume belongs to another VM; it was deleted; its record cannot be read).
    """
    async with core.db.transaction() as session:
        row, host = await unknown_vms.find(session, wanted.id)
        vm_id = row.vm_id
    try:
        document = await core.agent_of(host).vm_record(vm_id)
    except AgentSaidNo as error:
        if error.status != 404:
            raise
        raise Conflict(
            f"Host {host.name} has no readable record for VM {vm_id}: {str(error).rstrip('.')}.",
            cure="Restore the VM's vm.json from a backup.",
            code="NQR-API-133",
        ) from error
    try:
        async with core.db.transaction() as session:
            row, host = await unknown_vms.find(session, vm_id)
            vm = await _insert(session, host, vm_id, document, wanted.name, actor)
            await session.delete(row)
            shown = await vms.woken(core, session, vm)
    except IntegrityError as error:
        raise Conflict(f"VM {vm_id}, or another one with its name or address, got a record at the same moment.") from error
    return shown


async def _insert(session: AsyncSession, host: Host, vm_id: str, document: VmDocument, name: str | None, actor: str) -> Vm:
    spec, status = document.spec, document.status
    alive = status.state in unknown_vms.ALIVE
    await _check(session, host, vm_id, document, name or spec.name, alive)
    image = await session.scalar(select(Image).where(Image.name == spec.image.name))
    if image is None:
        raise Conflict(
            f"VM {spec.name} was created from image {spec.image.name}, which this manager does not have.",
            cure=f"Register an image of that name first: nqr image add {spec.image.name} --path DIR",
            code="NQR-API-134",
        )
    token = new_token()
    state = VmState(status.state) if alive else VmState.stopped
    wanted = {"running": DesiredState.running, "paused": DesiredState.paused}.get(state.value, DesiredState.stopped)
    given = asked_for(document)
    vm = Vm(
        id=spec.id,
        name=name or spec.name,
        host_id=host.id,
        image_id=image.id,
        image=image.name,
        desired_state=(DesiredState.running if status.waits_for_room else wanted).value,
        state=state.value,
        observed_generation=given["generation"],
        mac=spec.mac,
        tap=spec.tap,
        guest_token=token,
        guest_token_sha256=hash_token(token),
        error=plain(status.exit_reason) if status.waits_for_room else "",
        restarts=0,
        drained=False,
        created_by=actor,
        created_at=document.created_at,
        **given,
    )
    if not alive and await _holder(session, host, vm) is not None:
        vm.ip = None  # it gets a new one when it starts
    session.add(vm)
    await session.flush()
    await _take_volumes(session, vm, spec.name)
    for found in document.snapshots:
        session.add(
            Snapshot(
                vm_id=vm.id,
                name=found.name,
                kind=found.kind,
                state="ready",
                error="",
                size=found.size,
                created_at=found.created_at,
            )
        )
    observing.observe(session, vm, host, status, None)
    events.record(session, vm, "VmAdopted", f"{events.name_of(actor)} adopted VM {vm.name} on host {host.name}.")
    if vm.name != spec.name:  # its host learns the new name
        await operations.enqueue(session, vm, "update", DesiredState(vm.desired_state), actor)
    return vm


def asked_for(document: VmDocument) -> dict[str, Any]:
    """Return the request in the form of a VM's row. A host can make up its record, so this bounds it."""
    spec = document.spec
    found, tags = [volumes.plain(one) for one in spec.volumes], [named(tag) for tag in spec.tags]
    return {
        "vcpus": spec.vcpus,
        "memory_mib": spec.memory_mib,
        "disk_mib": spec.disk_mib,
        "generation": min(spec.generation, BELIEVED_GENERATION),
        "ip": spec.ip,
        "network_written": plain(document.network_written),
        "spec": VmKept.model_validate({**dict(spec), "volumes": found, "tags": tags}),
    }


async def _check(session: AsyncSession, host: Host, vm_id: str, document: VmDocument, name: str, alive: bool) -> None:
    spec = document.spec
    if {spec.id, document.status.id} != {vm_id}:
        raise Conflict(
            f"Host {host.name} answers with the record of another VM ({spec.id}).",
            cure="Check the agent's log on that host.",
            code="NQR-API-133",
        )
    try:
        UUID(spec.id)
    except ValueError as error:
        raise Invalid(f"{spec.id} is not the id of a VM of this platform.", cure="Delete it: nqr vm rm --unknown ID") from error
    vms.check_name(name)
    deleted = await session.get(Tombstone, spec.id)
    if deleted is not None:
        raise Conflict(
            f"{deleted.deleted_by} deleted VM {spec.name} at {deleted.deleted_at:%Y-%m-%d %H:%M}. Its host removes the rest.",
            cure="Create a new VM.",
            code="NQR-API-135",
        )
    elsewhere = await session.get(Vm, spec.id)
    if elsewhere is not None:
        where = await session.scalar(select(Host.name).where(Host.id == elsewhere.host_id))
        raise Conflict(
            f"VM {elsewhere.name} is recorded on host {where or '(none)'}.",
            cure=f"If that host is gone or has a new name, remove it first: nqr host rm --force {where or 'NAME'}",
            code="NQR-API-136",
        )
    if await session.scalar(select(Vm.id).where(Vm.name == name)) is not None:
        raise Conflict(
            f"There is already a VM named {name}.",
            cure=f"Adopt it under another name: nqr vm adopt {spec.id} --name NAME",
            code="NQR-API-137",
        )
    other = await _holder(session, host, spec)
    if other is not None and (alive or spec.ip is None or other.ip != spec.ip):
        raise Conflict(
            f"VM {other.name} has the address {spec.ip}, the MAC or the TAP of VM {name}.",
            cure=f"Power off {name} inside its guest, or delete {other.name}: nqr vm rm {other.name}",
            code="NQR-API-138",
        )


async def _holder(session: AsyncSession, host: Host, of: Any) -> Vm | None:
    """Return another VM with its MAC, or with its address or TAP on this host."""
    on_host = (Vm.host_id == host.id) & or_(Vm.tap == of.tap, Vm.ip == of.ip if of.ip else Vm.tap == of.tap)
    query = select(Vm).where(Vm.id != of.id, or_(Vm.mac == of.mac, on_host)).limit(1)
    with session.no_autoflush:
        return (await session.scalars(query)).first()


async def _take_volumes(session: AsyncSession, vm: Vm, old_name: str) -> None:
    """Give the VM its kept volumes again. New ones keep the name that the host gives them once they are kept."""
    kept = []
    for volume in vm.spec.volumes:
        if volume.name:
            await volumes.insert_row(session, volume.name, vm.host_id or "", volume.size_mib)
            row = await session.get(Volume, volume.name, with_for_update=True)
            if row is None or row.vm_id not in (None, vm.id) or row.host_id != vm.host_id:
                raise Conflict(
                    f"Volume {volume.name} belongs to another VM or host on record.",
                    cure="Delete the VM of that record first. `nqr volume ls` shows it.",
                    code="NQR-API-123",
                )
            row.vm_id = vm.id
        elif vm.name != old_name and not volume.kept_as:
            volume = volume.model_copy(update={"kept_as": kept_volume_name(old_name, volume.device, vm.id)})
        kept.append(volume)
    vm.change(volumes=kept)
