"""Operations: requested changes of a VM, recorded before they are carried out.

A VM's row holds the wanted state (`desired_state`, `generation`). Each change of it writes an operation in the same
transaction. The worker runs the newest one of each VM and marks older ones that have not begun as superseded.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.vms import DesiredState, VmState
from nqrust.manager import events
from nqrust.manager.clock import now
from nqrust.manager.store.database import OPERATIONS_CHANNEL
from nqrust.manager.store.tables import Operation, Vm

DEADLINES = {
    "create": timedelta(minutes=10),
    "start": timedelta(minutes=10),
    "stop": timedelta(minutes=15),
    "restart": timedelta(minutes=15),
    "pause": timedelta(minutes=2),
    "resume": timedelta(minutes=2),
    "update": timedelta(minutes=2),
    "snapshot": timedelta(minutes=30),
    "restore": timedelta(minutes=30),
    "forget": timedelta(minutes=10),
    "delete": timedelta(minutes=10),
}
_WHILE = {
    "create": VmState.pending,
    "start": VmState.starting,
    "stop": VmState.stopping,
    "restart": VmState.stopping,
    "delete": VmState.deleting,
}
OPEN = ("pending", "running")


async def enqueue(
    session: AsyncSession,
    vm: Vm,
    kind: str,
    desired: DesiredState,
    actor: str,
    params: dict[str, Any] | None = None,
    delay: timedelta = timedelta(0),
) -> Operation:
    """Change the wanted state of `vm` (locked by the caller) and record it. The commit wakes the worker."""
    if kind != "create":
        vm.generation += 1
    vm.desired_state = desired.value
    vm.error = ""
    if kind in _WHILE:
        vm.state = _WHILE[kind].value
    operation = Operation(
        vm_id=vm.id,
        host_id=vm.host_id,
        kind=kind,
        generation=vm.generation,
        params=params or {},
        actor=actor,
        state="pending",
        attempts=0,
        error="",
        not_before=now() + delay,
        deadline=now() + delay + DEADLINES[kind],
    )
    session.add(operation)
    await session.execute(text("SELECT pg_notify(:channel, :vm)"), {"channel": OPERATIONS_CHANNEL, "vm": vm.id})
    return operation


async def has_open(session: AsyncSession, vm_id: str) -> bool:
    """Return whether an operation is running or pending."""
    query = select(Operation.id).where(Operation.vm_id == vm_id, Operation.state.in_(OPEN)).limit(1)
    return await session.scalar(query) is not None


async def failed_before(session: AsyncSession, vm_id: str, before: int | None = None) -> Operation | None:
    """Return this VM's last operation, or the last with an id below `before`, if it failed within the last ten minutes. The
    reconciler repeats one each minute. An older failure is news again, such as at each boot of a host."""
    query = select(Operation).where(Operation.vm_id == vm_id).order_by(Operation.id.desc()).limit(1)
    last = await session.scalar(query if before is None else query.where(Operation.id < before))
    if last is None or last.state != "failed" or last.finished_at is None:
        return None
    return last if abs(now() - last.finished_at) < timedelta(minutes=10) else None


async def close_all(session: AsyncSession, vm_id: str) -> None:
    """Close all open operations of this VM."""
    await session.execute(
        update(Operation).where(Operation.vm_id == vm_id, Operation.state.in_(OPEN)).values(state="superseded", finished_at=now())
    )


async def prune(session: AsyncSession, days: int) -> None:
    """Delete operations that finished more than `days` ago. Open operations stay, even old ones."""
    past = func.coalesce(Operation.finished_at, Operation.created_at) < now() - timedelta(days=days)
    await session.execute(delete(Operation).where(Operation.state.not_in(OPEN), past))


async def stop_all(session: AsyncSession, host_id: str, actor: str) -> int:
    """Stop every VM of a host and mark them as drained. Return how many were running."""
    wanted = Vm.desired_state.in_((DesiredState.running.value, DesiredState.paused.value))
    vms = list(await session.scalars(select(Vm).where(Vm.host_id == host_id, wanted).with_for_update()))
    for vm in vms:
        vm.drained = True
        await enqueue(session, vm, "stop", DesiredState.stopped, actor, {"timeout_seconds": 60})
    return len(vms)


async def start_drained(session: AsyncSession, host_id: str) -> None:
    """Start VMs that a drain stopped, unless somebody changed them since."""
    query = select(Vm).where(Vm.host_id == host_id, Vm.drained.is_(True)).with_for_update()
    for vm in list(await session.scalars(query)):
        vm.drained = False
        if vm.desired_state == DesiredState.stopped.value and vm.spec.autostart:
            await enqueue(session, vm, "start", DesiredState.running, "system:uncordon")
            events.record(session, vm, "VmStarting", f"VM {vm.name} restarts after the drain.")
