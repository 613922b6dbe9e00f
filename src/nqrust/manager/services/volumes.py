"""Kept volumes: which there are, on which host, and which VM has one.

A row whose volume no VM has follows what the host reports: it comes when the file does and goes with it. A row whose
volume a VM has stays for as long as the VM does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract import names
from nqrust.contract.api.agent import Inventory
from nqrust.contract.api.vms import VolumeCreate
from nqrust.contract.api.volumes import StoredVolume, StoredVolumeList
from nqrust.manager.core import Core
from nqrust.manager.errors import Conflict, NotFound
from nqrust.manager.services import events
from nqrust.manager.store.tables import Host, Vm, Volume


async def of_all(core: Core, host: str | None = None) -> StoredVolumeList:
    """By name. `host`: name or id of the only one to look at."""
    query = (
        select(Volume, Host.name, Vm.name)
        .join(Host, Host.id == Volume.host_id)
        .outerjoin(Vm, Vm.id == Volume.vm_id)
        .order_by(Volume.name)
    )
    if host is not None:
        query = query.where((Host.name == host) | (Host.id == host))
    async with core.db.transaction() as session:
        found = (await session.execute(query)).all()
    items = [
        StoredVolume(name=row.name, size_mib=row.size_mib, host=where, vm=vm, created_at=row.created_at)
        for row, where, vm in found
    ]
    return StoredVolumeList(items=items, total=len(items))


async def remove(core: Core, name: str, actor: str) -> None:
    """The volume and what is in it, on its host first: when that does not answer, nothing is forgotten.

    Locked meanwhile, so that no VM gets what is about to go.
    """
    async with core.db.transaction() as session:
        row = await session.get(Volume, name, with_for_update=True)
        if row is None:
            raise _unknown(name)
        await _free(session, row)
        host = await session.get(Host, row.host_id)
        assert host is not None  # a foreign key holds it
        await core.agent_of(host).delete_volume(name)
        await session.delete(row)
        message = f"Volume {name} on host {host.name} was deleted by {actor}."
        events.record(session, ("volume", name, name), "VolumeDeleted", message)


async def taken(
    session: AsyncSession, vm_id: str, wanted: Sequence[VolumeCreate], host: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    """The volumes of a new VM as its row keeps them, and the name of the host it has to go to.

    Kept ones are its own from now on (`session` has its row). Raises NotFound, Conflict.
    """
    for name in sorted(volume.name for volume in wanted if volume.name is not None):
        await _named(session, name)  # locked in one order, so that no two requests wait for each other
    rows: list[dict[str, Any]] = []
    for letter, volume in zip("bcdefghi", wanted, strict=False):
        found: dict[str, Any] = {"device": f"vd{letter}", "size_mib": volume.size_mib, "keep": volume.keep, "name": None}
        if volume.name is not None:
            row = await _named(session, volume.name)
            await _free(session, row)
            place = await session.scalar(select(Host.name).where(Host.id == row.host_id))
            if host not in (None, place):
                raise Conflict(
                    f"Volume {row.name} is on host {place}, and the VM is to be on host {host}.",
                    cure=f"Place the VM on host {place}, with volumes of that host only.",
                    code="NQR-API-124",
                )
            host, row.vm_id = place, vm_id
            await session.flush()
            found |= {"size_mib": row.size_mib, "keep": True, "name": row.name}
        rows.append(found)
    return rows, host


async def left(session: AsyncSession, vm: Vm) -> list[str]:
    """What a VM that goes leaves behind, by name; those it had from others are nobody's again with its row."""
    names_of_new = []
    for volume in vm.volumes:
        if volume["keep"] and vm.host_id is not None and not volume.get("name"):
            name = names.kept_volume_name(vm.name, volume["device"], vm.id)
            await _insert(session, name, vm.host_id, volume["size_mib"])
            names_of_new.append(name)
    return [*names_of_new, *(volume["name"] for volume in vm.volumes if volume.get("name"))]


async def observed(core: Core, inventories: Mapping[str, Inventory]) -> None:
    """Rows follow what the hosts report. A volume that is being attached or removed is put right by the next look."""
    told = {host_id: inventory.volumes for host_id, inventory in inventories.items() if inventory.volumes is not None}
    async with core.db.transaction() as session:
        known: dict[str, set[str]] = {}
        attached: set[str] = set()
        for name, host_id, vm_id in await session.execute(select(Volume.name, Volume.host_id, Volume.vm_id)):
            known.setdefault(host_id, set()).add(name)
            attached |= {name} if vm_id else set()
        for host_id, volumes in told.items():
            there = {volume.name: volume.size_mib for volume in volumes}
            for name in there.keys() - known.get(host_id, set()):
                await _insert(session, name, host_id, there[name])
            gone = known.get(host_id, set()) - there.keys() - attached
            if gone:
                await session.execute(
                    delete(Volume).where(
                        Volume.host_id == host_id, Volume.name.in_(sorted(gone)), Volume.vm_id.is_(None)
                    )
                )


async def _insert(session: AsyncSession, name: str, host_id: str, size_mib: int) -> None:
    await session.execute(
        insert(Volume).values(name=name, host_id=host_id, size_mib=size_mib).on_conflict_do_nothing()
    )


async def _named(session: AsyncSession, name: str) -> Volume:
    """The volume of that name, else the only one whose name begins so; locked."""
    query = select(Volume).where(Volume.name.startswith(name, autoescape=True)).order_by(Volume.name)
    found = list(await session.scalars(query.with_for_update()))
    exact = [row for row in found if row.name == name]
    if exact or len(found) == 1:
        return (exact or found)[0]
    if not found:
        raise _unknown(name)
    raise Conflict(
        f"{len(found)} volumes have names that begin with {name}: {', '.join(row.name for row in found[:3])}.",
        cure="Give the whole name.",
        code="NQR-API-125",
    )


async def _free(session: AsyncSession, row: Volume) -> None:
    if row.vm_id is not None:
        vm = await session.scalar(select(Vm.name).where(Vm.id == row.vm_id))
        raise Conflict(
            f"Volume {row.name} is in use by VM {vm or row.vm_id}.",
            cure="Delete that VM first; the volume stays.",
            code="NQR-API-123",
        )


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no kept volume {name}.", cure="`nqr volume ls` shows the volumes.")
