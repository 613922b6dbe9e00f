"""VMs that a host has without a row, for example after a database restore. The manager reports and does not change them.

The table follows the hosts' reports. Its rows reserve the VM's resources: no other VM gets its address, its memory or its
ports of the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.agent import VmStatus
from nqrust.contract.text import plain
from nqrust.contract.unknown_vms import UnknownVm as ApiUnknownVm
from nqrust.contract.unknown_vms import UnknownVmList
from nqrust.manager import events
from nqrust.manager.core.core import Core
from nqrust.manager.errors import Conflict, NotFound
from nqrust.manager.store.arrays import among
from nqrust.manager.store.tables import Host, UnknownVm, Vm
from nqrust.manager.vms import tombstones

ALIVE = ("running", "paused")
MOST = 1000
"""Rows of one host."""


async def of_all(core: Core) -> UnknownVmList:
    """Return all unknown VMs by host and name."""
    async with core.db.reading() as session:
        found = await by_host(session)
    items = [item for host in sorted(found) for item in found[host]]
    return UnknownVmList(items=items, total=len(items))


async def by_host(session: AsyncSession, host_id: str | None = None) -> dict[str, list[ApiUnknownVm]]:
    """Return host id -> its unknown VMs by name, for one host only with `host_id`."""
    recorded = select(Host.name).join(Vm, Vm.host_id == Host.id).where(Vm.id == UnknownVm.vm_id).scalar_subquery()
    query = select(UnknownVm, Host.name, recorded).join(Host, Host.id == UnknownVm.host_id)
    if host_id is not None:
        query = query.where(UnknownVm.host_id == host_id)
    found: dict[str, list[ApiUnknownVm]] = {}
    for row, host, elsewhere in await session.execute(query.order_by(Host.name, UnknownVm.name, UnknownVm.vm_id)):
        found.setdefault(row.host_id, []).append(
            ApiUnknownVm(
                id=row.vm_id,
                name=row.name,
                host=host,
                state=row.state,
                ip=row.ip,
                image=row.image,
                vcpus=row.vcpus,
                memory_mib=row.memory_mib,
                recorded_on=elsewhere,
                first_seen_at=row.first_seen_at,
            )
        )
    return found


async def counts(session: AsyncSession) -> dict[str, int]:
    """Return host name -> number of unknown VMs, for every host."""
    query = select(Host.name, func.count(UnknownVm.vm_id)).outerjoin(UnknownVm, UnknownVm.host_id == Host.id).group_by(Host.name)
    return {row[0]: row[1] for row in await session.execute(query)}


async def find(session: AsyncSession, ref: str) -> tuple[UnknownVm, Host]:
    """Return the unknown VM with this id or name, locked, and its host. Raises NotFound, or Conflict if two have the name."""
    query = select(UnknownVm).where(or_(UnknownVm.vm_id == ref, UnknownVm.name == ref)).order_by(UnknownVm.host_id)
    found = list(await session.scalars(query.with_for_update()))
    found = [row for row in found if row.vm_id == ref] or found
    if not found:
        raise NotFound(f"No host reports an unknown VM {ref}.", cure="`nqr vm ls --unknown` lists them.")
    if len(found) > 1:
        where = ", ".join(row.vm_id for row in found)
        raise Conflict(f"{len(found)} unknown VMs are called {ref}: {where}.", cure="Use the id of the VM.", code="NQR-API-132")
    host = await session.get(Host, found[0].host_id)
    assert host is not None  # a foreign key holds it
    return found[0], host


async def observed(core: Core, found: Mapping[str, Sequence[VmStatus]]) -> None:
    """Update the table. `found`: VMs without a row for each host that answered. An event reports each VM once, as far
    as the host's budget allows. Of one host, `MOST` VMs get a row."""
    if not found:
        return
    async with core.db.transaction() as session:
        known = {
            (row.host_id, row.vm_id): row
            for row in await session.scalars(select(UnknownVm).where(UnknownVm.host_id.in_(list(found))))
        }
        seen = {(host_id, status.id): status for host_id, statuses in found.items() for status in statuses}
        # Looked up again: a VM that was created meanwhile has its row by now.
        ids = {vm_id for _, vm_id in seen}
        placed = select(Vm.id, Vm.host_id).where(among(Vm.id, ids))
        rows = {row[0]: row[1] for row in await session.execute(placed)} if ids else {}
        room = dict.fromkeys(found, MOST)
        for key in sorted(seen, key=lambda key: key not in known):  # those with a row keep it
            (host_id, vm_id), status = key, seen[key]
            if room[host_id] <= 0:
                continue
            if vm_id in rows and rows[vm_id] in (None, host_id):
                continue
            room[host_id] -= 1
            values = _values(status)
            row = known.pop(key, None)
            if row is None:
                session.add(UnknownVm(host_id=host_id, vm_id=vm_id, **values))
                await _report(core, session, host_id, status)
            elif any(getattr(row, name) != value for name, value in values.items()):
                for name, value in values.items():
                    setattr(row, name, value)
        for row in known.values():
            await session.delete(row)


def _values(status: VmStatus) -> dict[str, Any]:
    return {
        "name": plain(status.name),
        "state": status.state,
        "ip": status.ip,
        "image": plain(status.image),
        "vcpus": status.vcpus,
        "memory_mib": status.memory_mib,
        "forwards": status.forwards,
    }


async def _report(core: Core, session: AsyncSession, host_id: str, status: VmStatus) -> None:
    host = await session.get(Host, host_id)
    if host is None or not core.budgets.allow(host_id, "UnknownVm"):
        return
    name = f"{status.name} ({status.id})" if status.name else status.id
    has = "runs" if status.state in ALIVE else "has"
    message = f"Host {host.name} {has} VM {name}, which has no record here. It is left alone. Adopt it: nqr vm adopt {status.id}"
    events.record(session, host, "UnknownVm", message, "warning")


async def remove(core: Core, ref: str, actor: str) -> None:
    """Delete an unknown VM with its disk, on its host first. If the host does not answer, its record stays.

    The delete is recorded before, so that the reconciler finishes an interrupted one.
    """
    async with core.db.transaction() as session:
        row, host = await find(session, ref)
        vm_id, name = row.vm_id, row.name or row.vm_id
        recorded = await session.get(Vm, vm_id) is not None  # on another host: that VM stays
        if not recorded:
            await tombstones.record(session, vm_id, row.name, host.id, actor)
    await core.agent_of(host).delete_vm(vm_id)
    async with core.db.transaction() as session:
        if not recorded:
            await tombstones.confirm(session, vm_id)
        await session.execute(delete(UnknownVm).where(UnknownVm.host_id == host.id, UnknownVm.vm_id == vm_id))
        message = f"{events.name_of(actor)} deleted the unknown VM {name} from host {host.name}."
        events.record(session, ("vm", vm_id, name), "Deleted", message)
