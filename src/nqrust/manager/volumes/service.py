"""Kept volumes, with their hosts and the VMs that have them attached.

The row of a detached volume follows the host's report: it appears and disappears with the file. The row of an attached volume
stays as long as its VM.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from sqlalchemy import delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.agent import Inventory
from nqrust.contract.vms import Volume as ApiVolume
from nqrust.contract.vms import VolumeCreate
from nqrust.contract.volumes import StoredVolume, StoredVolumeList
from nqrust.manager import events
from nqrust.manager.core.agents import AgentPort
from nqrust.manager.core.core import Core
from nqrust.manager.errors import Conflict, NotFound
from nqrust.manager.store.arrays import among
from nqrust.manager.store.tables import SPEC, Host, Vm, Volume

DEVICES = tuple(f"vd{letter}" for letter in "bcdefghi")
"""Those of a VM's volumes."""
MOST = 2000
"""Rows of one host that its reports make."""
UNSETTLED = or_(*(SPEC["volumes"].contains([{"change": change}]) for change in ("attaching", "detaching", "withdrawing")))
"""`unsettled`, for a query."""


async def of_all(core: Core, host: str | None = None) -> StoredVolumeList:
    """Return volumes by name. `host`: name or id of the only host to list."""
    query = (
        select(Volume, Host.name, Vm.name)
        .join(Host, Host.id == Volume.host_id)
        .outerjoin(Vm, Vm.id == Volume.vm_id)
        .order_by(Volume.name)
    )
    if host is not None:
        query = query.where((Host.name == host) | (Host.id == host))
    async with core.db.reading() as session:
        found = (await session.execute(query)).all()
    items = [
        StoredVolume(name=row.name, size_mib=row.size_mib, host=where, vm=vm, created_at=row.created_at)
        for row, where, vm in found
    ]
    return StoredVolumeList(items=items, total=len(items))


async def remove(core: Core, name: str, actor: str) -> None:
    """Delete the volume and its data, on its host first. If the host does not answer, the record stays.

    No VM attaches the volume meanwhile. No lock and no connection to the database wait for the host: it may never answer.
    """
    with ExitStack() as afterwards:
        async with core.db.transaction() as session:
            row = await session.get(Volume, name, with_for_update=True)
            if row is None:
                raise _unknown(name)
            await _free(core, session, row)
            core.deleting.add(name)
            afterwards.callback(core.deleting.discard, name)
            host = await session.get(Host, row.host_id)
            assert host is not None  # a foreign key holds it
        await core.agent_of(host).delete_volume(name)
        async with core.db.transaction() as session:
            await session.execute(delete(Volume).where(Volume.name == name, Volume.host_id == host.id, Volume.vm_id.is_(None)))
            message = f"{events.name_of(actor)} deleted volume {name} on host {host.name}."
            events.record(session, ("volume", name, name), "VolumeDeleted", message)


async def taken(
    core: Core, session: AsyncSession, vm_id: str, wanted: Sequence[VolumeCreate], host: str | None
) -> tuple[list[ApiVolume], str | None]:
    """Return the volumes of a new VM in the form of its row, and the name of the host where they are.

    Attaches kept ones (`session` has the VM's row). Raises NotFound, Conflict.
    """
    for name in sorted(volume.name for volume in wanted if volume.name is not None):
        await _named(session, name)  # locked in one order, to avoid deadlocks
    rows: list[ApiVolume] = []
    for device, volume in zip(DEVICES, wanted, strict=False):
        found, host = await take(core, session, vm_id, device, volume, host)
        rows.append(found)
    return rows, host


async def take(
    core: Core, session: AsyncSession, vm_id: str, device: str, wanted: VolumeCreate, host: str | None, placed: bool = False
) -> tuple[ApiVolume, str | None]:
    """Return one volume in the form of a VM's row, and the host where the VM must go, or is (`placed`).

    Raises NotFound, Conflict.
    """
    if wanted.name is None:
        assert wanted.size_mib is not None  # its validator ensures that
        return ApiVolume(device=device, size_mib=wanted.size_mib, keep=wanted.keep), host
    row = await _named(session, wanted.name)
    await _free(core, session, row)
    place = await session.scalar(select(Host.name).where(Host.id == row.host_id))
    if host not in (None, place):
        raise Conflict(
            f"Volume {row.name} is on host {place}, and the VM is {'' if placed else 'to be '}on host {host}.",
            cure=f"Attach volumes of host {host} only."
            if placed
            else f"Place the VM on host {place}, with volumes of that host only.",
            code="NQR-API-124",
        )
    row.vm_id = vm_id
    await session.flush()
    return ApiVolume(device=device, size_mib=row.size_mib, keep=True, name=row.name), place


def plain(volume: ApiVolume) -> ApiVolume:
    """Return the volumes without pending changes."""
    return volume.model_copy(update={"change": None, "data": None})


def unsettled(vm: Vm) -> bool:
    """Return whether its host must still learn of a volume to attach or detach."""
    return any(volume.change for volume in vm.spec.volumes)


def to_be_saved(vm: Vm) -> bool:
    """Return whether a volume that would be deleted with the VM is being moved to the kept ones."""
    return any(v.change == "detaching" and v.data == "keep" and not v.keep for v in vm.spec.volumes)


async def kept_there(agent: AgentPort, vm: Vm) -> set[str]:
    """Return names of volumes that the host keeps after deleting the VM. A volume that was never created is not kept."""
    wanted = {
        volume.kept_name(vm.name, vm.id) for volume in vm.spec.volumes if volume.keep or volume.data == "keep" or volume.name
    }
    if not wanted:
        return set()
    found = (await agent.inventory()).volumes
    return {volume.name for volume in found or []} & wanted


async def left(session: AsyncSession, vm: Vm, there: Collection[str]) -> None:
    """Record the new volumes among those that a VM leaves. Older ones become detached when its row is deleted."""
    for volume in vm.spec.volumes:
        name = volume.kept_name(vm.name, vm.id)
        if vm.host_id is not None and not volume.name and name in there:
            await insert_row(session, name, vm.host_id, volume.size_mib)


async def follow(session: AsyncSession, vm: Vm) -> None:
    """Update the VM's kept volumes after taking its row from its host. A volume that is another host's or VM's stays there,
    whatever the host says.

    Volumes that it lost become detached: they can be attached or deleted, and are removed if their host lacks them.
    """
    has = {volume.name: volume.size_mib for volume in vm.spec.volumes if volume.name}
    query = select(Volume).where(Volume.vm_id == vm.id, Volume.name.not_in(sorted(has))).with_for_update()
    for row in await session.scalars(query):
        row.vm_id = None
    for name in sorted(has):
        await insert_row(session, name, vm.host_id or "", has[name])
        taken = await session.get(Volume, name, with_for_update=True)
        if taken is not None and taken.host_id == vm.host_id and taken.vm_id in (None, vm.id):
            taken.vm_id = vm.id


async def free(core: Core) -> set[str]:
    """Return names of detached volumes."""
    async with core.db.transaction() as session:
        return set(await session.scalars(select(Volume.name).where(Volume.vm_id.is_(None))))


async def observed(core: Core, inventories: Mapping[str, Inventory], before: Collection[str]) -> None:
    """Update rows from the hosts' reports. `before`: names of volumes that were detached before the hosts were asked.

    Only these can go missing. A volume in a VM's row gets no row of its own, wherever its file is and whichever host reports it:
    another host could take the name before the VM's own host keeps the volume.
    """
    async with core.db.transaction() as session:
        known: dict[str, set[str]] = {}
        for name, host_id in await session.execute(select(Volume.name, Volume.host_id)):
            known.setdefault(host_id, set()).add(name)
        reported = {host: {volume.name: volume.size_mib for volume in one.volumes} for host, one in inventories.items()}
        strange = {host: there.keys() - known.get(host, set()) for host, there in reported.items()}
        of_vms = await _of_vms(session) if any(strange.values()) else set()
        for host_id, there in reported.items():
            names = sorted(strange[host_id] - of_vms)
            if rows := [_row(name, host_id, there[name]) for name in names[: max(0, MOST - len(known.get(host_id, ())))]]:
                await session.execute(insert(Volume).values(rows).on_conflict_do_nothing())
            gone = (known.get(host_id, set()) & set(before)) - there.keys()
            if gone:
                await session.execute(
                    delete(Volume).where(Volume.host_id == host_id, among(Volume.name, gone), Volume.vm_id.is_(None))
                )


async def _of_vms(session: AsyncSession) -> set[str]:
    """Return the present or future names of volumes of VMs."""
    query = select(Vm).where(func.jsonb_array_length(SPEC["volumes"]) > 0)
    return {volume.kept_name(vm.name, vm.id) for vm in await session.scalars(query) for volume in vm.spec.volumes}


async def insert_row(session: AsyncSession, name: str, host_id: str, size_mib: int) -> None:
    await session.execute(insert(Volume).values(**_row(name, host_id, size_mib)).on_conflict_do_nothing())


def _row(name: str, host_id: str, size_mib: int) -> dict[str, Any]:
    return {"name": name, "host_id": host_id, "size_mib": size_mib}


async def _named(session: AsyncSession, name: str) -> Volume:
    """Return the volume of that name, or the only one whose name begins so, locked."""
    query = select(Volume).where(Volume.name.startswith(name, autoescape=True)).order_by(Volume.name)
    found = list(await session.scalars(query.with_for_update()))
    exact = [row for row in found if row.name == name]
    if exact or len(found) == 1:
        return (exact or found)[0]
    if not found:
        raise _unknown(name)
    raise Conflict(
        f"{len(found)} volume names begin with {name}: {', '.join(row.name for row in found[:3])}.",
        cure="Give the full name.",
        code="NQR-API-125",
    )


async def _free(core: Core, session: AsyncSession, row: Volume) -> None:
    if row.name in core.deleting:
        raise Conflict(
            f"Volume {row.name} is being deleted.", cure="Wait until its host has answered: nqr volume ls", code="NQR-API-123"
        )
    if row.vm_id is not None:
        vm = await session.scalar(select(Vm.name).where(Vm.id == row.vm_id))
        raise Conflict(
            f"Volume {row.name} is in use by VM {vm or row.vm_id}.",
            cure="Detach it from that VM, or delete the VM. The volume stays.",
            code="NQR-API-123",
        )


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no kept volume {name}.", cure="`nqr volume ls` shows the volumes.")
