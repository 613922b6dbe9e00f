"""Writes a host's report of a VM into the VM's row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.agent import VmStatus
from nqrust.contract.text import plain
from nqrust.contract.vms import VmState
from nqrust.manager import events
from nqrust.manager.clock import now
from nqrust.manager.core.core import Core
from nqrust.manager.store.arrays import among
from nqrust.manager.store.tables import Host, Vm

_VMMS = {"qemu": "QEMU", "firecracker": "Firecracker"}
_ACCELS = {"tcg": "emulated", "kvm": "KVM"}


def observe(
    session: AsyncSession,
    row: Vm,
    host: Host,
    status: VmStatus,
    generation: int | None,
    record: Callable[..., None] = events.record,
) -> None:
    """Record an agent's report of a VM. `generation`: of the operation, or None for a plain look. `record`: writes its events.

    The state is written only if nobody has requested something newer.
    """
    before = row.state
    row.network_written = plain(status.network_written) or row.network_written
    row.exit_code = status.exit_code
    row.made = row.made or status.disk
    if generation is not None:
        row.observed_generation = max(row.observed_generation, generation)
    if status.state in ("running", "paused"):
        newer = row.started_at is not None and status.started_at is not None and status.started_at > row.started_at
        if newer:
            stopped(row)  # an earlier start sent the guest's report
        row.started_at = status.started_at or row.started_at or now()
        row.host_boot_id = host.boot_id
        row.limits = status.limits.model_dump() if status.limits else None
        if status.guest is not None and row.guest_up_at is None:
            row.guest, row.boot_id, row.guest_up_at = (
                status.guest.model_dump(mode="json"),
                status.guest.boot_id,
                now(),
            )
    if generation is not None and row.generation > generation:
        return
    earlier, row.error = row.error, ""
    if status.state == "running":
        row.state = VmState.running.value
        if before not in (VmState.running.value, VmState.paused.value, VmState.unknown.value):
            record(session, row, "Started", f"VM {row.name} started on host {host.name}{_means(status)}.")
        elif before == VmState.paused.value:
            record(session, row, "Resumed", f"VM {row.name} resumed.")
    elif status.state == "paused":
        row.state = VmState.paused.value
        if status.waits_for_room:
            row.error = plain(status.exit_reason)
            if (before, earlier) != (VmState.paused.value, row.error):
                message = f"VM {row.name} paused: the disk of host {host.name} is full."
                record(session, row, "DiskFull", message, "warning")
        elif before != VmState.paused.value:
            record(session, row, "Paused", f"VM {row.name} paused.")
    else:
        stopped(row)
        row.state = VmState.stopped.value
        if before not in (VmState.stopped.value, VmState.pending.value):
            record(session, row, "Stopped", f"VM {row.name} stopped.")


async def disks(core: Core, found: Mapping[str, Collection[str]]) -> None:
    """Record that these VMs have a disk on their host. `found`: ids by host."""
    async with core.db.transaction() as session:
        for host_id, ids in found.items():
            await session.execute(update(Vm).where(Vm.host_id == host_id, among(Vm.id, ids)).values(made=True))


def _means(status: VmStatus) -> str:
    """Return ` (QEMU, emulated)`, or "" if the host does not report it."""
    if not status.vmm:
        return ""
    return f" ({_VMMS.get(status.vmm, status.vmm)}, {_ACCELS.get(status.accel, status.accel)})"


def stopped(row: Vm) -> None:
    """Clear the fields that do not apply to a stopped VM."""
    row.started_at = row.guest_up_at = row.boot_id = row.guest = row.host_boot_id = row.limits = None
