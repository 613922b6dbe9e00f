"""Requests for snapshots: a row first, then an operation; and the worker's part."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy import case, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.agent import VmStatus
from nqrust.contract.vms import DesiredState, SnapshotFound, SnapshotList, VmState
from nqrust.contract.vms import Snapshot as ApiSnapshot
from nqrust.contract.vms import Vm as ApiVm
from nqrust.manager import events, operations
from nqrust.manager.clock import now
from nqrust.manager.core.agents import AgentPort, AgentSaidNo
from nqrust.manager.core.core import Core
from nqrust.manager.errors import Conflict, NotFound
from nqrust.manager.store.tables import Host, Operation, Snapshot, Vm
from nqrust.manager.vms import placement
from nqrust.manager.vms import service as vms
from nqrust.manager.volumes import service as volumes

KINDS = ("snapshot", "restore", "forget")
_STILL = (VmState.stopped.value, VmState.failed.value)
_LIVE = (VmState.running.value, VmState.paused.value)


async def of_vm(core: Core, ref: str) -> SnapshotList:
    """Return a VM's snapshots, oldest first."""
    async with core.db.reading() as session:
        vm = await vms.find(session, ref)
        query = select(Snapshot).where(Snapshot.vm_id == vm.id).order_by(Snapshot.created_at, Snapshot.name)
        items = [_shown(row) for row in await session.scalars(query)]
    return SnapshotList(items=items, total=len(items))


async def create(core: Core, ref: str, name: str, actor: str) -> ApiSnapshot:
    """Snapshot the disks, and the memory of a running VM."""
    async with core.db.transaction() as session:
        vm = await _idle(session, ref, (*_STILL, *_LIVE))
        host = await session.get(Host, vm.host_id) if vm.host_id else None
        if host is None:
            raise Conflict(f"VM {vm.name} is on no host yet.", cure="Start the VM once.", code="NQR-API-111")
        live = vm.state in _LIVE
        row = await session.get(Snapshot, (vm.id, name))
        if row is not None and row.state != "failed":
            raise Conflict(f"VM {vm.name} has a snapshot {name} already.", cure="Choose another name.")
        if row is None:
            row = Snapshot(vm_id=vm.id, name=name)
            session.add(row)
        row.kind, row.state, row.error, row.size, row.created_at = (
            "full" if live else "disk",
            "creating",
            "",
            0,
            now(),
        )
        await _enqueue(session, vm, "snapshot", _asked(name), actor)
        await session.flush()
        core.wake.set()
        return _shown(row)


async def restore(core: Core, ref: str, name: str, actor: str) -> ApiVm:
    """Restore a stopped VM. With a full snapshot it resumes from there."""
    async with core.db.transaction() as session:
        vm = await _idle(session, ref, _STILL)
        row = await _found(session, vm, name)
        if row.state != "ready":
            raise Conflict(f"Snapshot {name} is {row.state}.", cure="Create another snapshot.", code="NQR-API-111")
        desired = DesiredState.running if row.kind == "full" else DesiredState.stopped
        if desired is DesiredState.running:
            await placement.check(core, session, vm)
        await operations.enqueue(session, vm, "restore", desired, actor, _asked(name))
        vm.state = (VmState.starting if row.kind == "full" else VmState.stopped).value
        return await vms.woken(core, session, vm)


async def delete(core: Core, ref: str, name: str, actor: str) -> ApiSnapshot:
    async with core.db.transaction() as session:
        vm = await _idle(session, ref, (*_STILL, *_LIVE))
        row = await _found(session, vm, name)
        row.state, row.error = "deleting", ""
        await _enqueue(session, vm, "forget", {"snapshot": name}, actor)
        core.wake.set()
        return _shown(row)


async def ask(agent: AgentPort, vm_id: str, operation: Operation, generation: int) -> SnapshotFound | VmStatus | None:
    """Ask the agent for a snapshot, a restore or a deletion. `generation`: of the VM's row."""
    name, request = str(operation.params["snapshot"]), str(operation.params.get("request", ""))
    if operation.kind == "snapshot":
        return await agent.create_snapshot(vm_id, name, request, generation)
    if operation.kind == "restore":
        return await agent.restore_snapshot(vm_id, name, generation, request)
    try:
        await agent.delete_snapshot(vm_id, name, generation)
    except AgentSaidNo as error:
        if error.status != 404:
            raise
    return None


async def note(session: AsyncSession, vm: Vm, operation: Operation, found: SnapshotFound | VmStatus | None) -> None:
    """Record the result."""
    name = str(operation.params["snapshot"])
    row = await session.get(Snapshot, (vm.id, name))
    if row is None:
        return
    if isinstance(found, SnapshotFound):
        row.kind, row.state, row.size, row.error = found.kind, "ready", found.size, ""
        row.created_at = found.created_at
        events.record(session, vm, "SnapshotTaken", f"Snapshot {name} ({found.kind}) of VM {vm.name} was created.")
    elif found is None:
        await session.delete(row)
        events.record(session, vm, "SnapshotDeleted", f"Snapshot {name} of VM {vm.name} was deleted.")
    else:
        events.record(session, vm, "SnapshotRestored", f"VM {vm.name} was restored from snapshot {name}.")


async def failed(session: AsyncSession, vm: Vm, operation: Operation, reason: str) -> None:
    """Record the reason. A VM that was to be restored is stopped, and its disks are as the reason says.

    A snapshot whose deletion failed is most likely still there, so its name stays taken. One that was never taken has no size.
    """
    row = await session.get(Snapshot, (vm.id, str(operation.params["snapshot"])))
    if operation.kind == "restore":
        vm.desired_state, vm.state = DesiredState.stopped.value, VmState.stopped.value
    elif row is not None:
        row.state, row.error = ("ready" if row.size else "failed"), reason


async def superseded(session: AsyncSession, vm_id: str) -> None:
    """Drop snapshot operations that have not begun, after a newer request for the VM."""
    await session.execute(
        update(Snapshot)
        .where(Snapshot.vm_id == vm_id, Snapshot.state.in_(("creating", "deleting")))
        .values(state=case((Snapshot.size > 0, "ready"), else_="failed"), error="A newer request for the VM replaced this one.")
    )


def _asked(name: str) -> dict[str, Any]:
    """Return the parameters of a request that its host carries out once. Its identity is not the operation's id: a restored
    database gives its numbers again."""
    return {"snapshot": name, "request": uuid4().hex}


async def _idle(session: AsyncSession, ref: str, states: tuple[str, ...]) -> Vm:
    vm = await vms.changeable(session, ref)
    if vm.state not in states or await operations.has_open(session, vm.id) or volumes.unsettled(vm):
        raise Conflict(
            f"VM {vm.name} is {vm.state}, or an operation is running.",
            cure="Stop the VM first." if vm.state in _LIVE else "Wait until the operation ends, then try again.",
            code="NQR-API-111",
        )
    return vm


async def _enqueue(session: AsyncSession, vm: Vm, kind: str, params: dict[str, Any], actor: str) -> None:
    """Record an operation without changing the wanted or the observed state of the VM."""
    error = vm.error
    await operations.enqueue(session, vm, kind, DesiredState(vm.desired_state), actor, params)
    vm.error = error


async def _found(session: AsyncSession, vm: Vm, name: str) -> Snapshot:
    row = await session.get(Snapshot, (vm.id, name))
    if row is None:
        raise NotFound(f"VM {vm.name} has no snapshot {name}.", cure="`nqr vm snapshot ls` lists them.")
    return row


def _shown(row: Snapshot) -> ApiSnapshot:
    return ApiSnapshot.model_validate(row, from_attributes=True)
