"""Tombstones: records of deleted VMs, with time and actor. Without a row, only a VM with one is removed from a host.

The transaction that accepts the delete writes the tombstone. It stays until long after the host has confirmed that nothing of
the VM is left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.agent import Inventory
from nqrust.manager.clock import now
from nqrust.manager.core.core import Core
from nqrust.manager.store.arrays import among
from nqrust.manager.store.tables import Tombstone, Vm

KEPT = timedelta(days=365)
"""Counted from the host's confirmation; without one it stays."""


async def record(session: AsyncSession, vm_id: str, name: str, host_id: str | None, actor: str) -> None:
    """Record that `actor` deletes the VM. The first request stays on record."""
    row = {"vm_id": vm_id, "name": name, "host_id": host_id, "deleted_by": actor, "deleted_at": now()}
    await session.execute(insert(Tombstone).values(**row).on_conflict_do_nothing())


async def confirm(session: AsyncSession, vm_id: str) -> None:
    """Record that nothing of the VM is left on its host."""
    await session.execute(update(Tombstone).where(Tombstone.vm_id == vm_id).values(confirmed_at=now()))


async def of(core: Core, vm_ids: Collection[str]) -> set[str]:
    """Return those of `vm_ids` that somebody deleted."""
    if not vm_ids:
        return set()
    async with core.db.transaction() as session:
        return set(await session.scalars(select(Tombstone.vm_id).where(among(Tombstone.vm_id, vm_ids))))


async def observed(core: Core, inventories: Mapping[str, Inventory]) -> None:
    """Confirm the deletes of VMs that their host's inventory does not list any more."""
    async with core.db.transaction() as session:
        query = (
            select(Tombstone)
            .outerjoin(Vm, Vm.id == Tombstone.vm_id)
            .where(Tombstone.confirmed_at.is_(None), Tombstone.host_id.in_(list(inventories)), Vm.id.is_(None))
        )
        for row in await session.scalars(query):
            inventory = inventories[row.host_id or ""]
            left = {vm.id for vm in inventory.vms} | {tap.vm_id for tap in inventory.taps}
            if row.vm_id not in left:
                row.confirmed_at = now()


async def prune(session: AsyncSession) -> None:
    await session.execute(delete(Tombstone).where(Tombstone.confirmed_at < now() - KEPT))
