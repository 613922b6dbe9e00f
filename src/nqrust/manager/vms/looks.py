"""The live state of a VM from its host. The row may lag behind: not yet updated, or the reconciler is off.

This module does not write; the reconciler does.
"""

from __future__ import annotations

from nqrust.contract.agent import VmStatus
from nqrust.contract.text import plain
from nqrust.contract.vms import Vm as ApiVm
from nqrust.contract.vms import VmState
from nqrust.manager import operations
from nqrust.manager.core.agents import AgentFailure
from nqrust.manager.core.core import Core
from nqrust.manager.store.tables import Host, Vm
from nqrust.manager.vms import service as vms
from nqrust.manager.vms.restarts import comes_back

_LIVE = (VmState.running.value, VmState.paused.value)
_STILL = (*_LIVE, VmState.stopped.value)
"""States of a row that a host can contradict."""


async def fresh(core: Core, ref: str) -> ApiVm:
    """Return the VM with its host's live state. During an operation, return the row's state."""
    async with core.db.transaction() as session:
        row = await vms.find(session, ref)
        host = await session.get(Host, row.host_id) if row.host_id else None
        idle = row.state in _STILL and not await operations.has_open(session, row.id)
        shown = vms.api_vm(row, host.name if host else None)
    if host is None or not idle:
        return shown
    try:
        status = await core.agent_of(host).get_vm(row.id)
    except AgentFailure as error:
        shown.state, shown.error = VmState.unknown, f"Host {host.name} does not tell: {plain(str(error))}"
        return shown
    if status is not None and status.state in _LIVE:
        shown.state = VmState(status.state)
        shown.error = plain(status.exit_reason) if status.waits_for_room else ""
    elif row.state in _LIVE:
        _ended(core, row, shown, status)
    return shown


def _ended(core: Core, row: Vm, shown: ApiVm, status: VmStatus | None) -> None:
    clean = status is not None and status.state == "stopped"
    shown.error = plain(status.exit_reason) if status and status.exit_reason else "It ended for an unknown reason."
    shown.exit_code = status.exit_code if status else None
    shown.started_at = shown.guest_up_at = shown.boot_id = shown.guest = shown.limits = None
    if comes_back(row.spec.restart_policy, status) and not core.settings.reconciler_disabled:
        shown.state = VmState.starting  # the reconciler starts it again
    else:
        shown.state = VmState.stopped if clean else VmState.failed


async def contradicted(core: Core, ref: str) -> bool:
    """Return whether host and row disagree about whether the VM runs."""
    async with core.db.transaction() as session:
        before = (await vms.find(session, ref)).state
    if before not in _STILL:
        return False
    now = (await fresh(core, ref)).state
    return now is not VmState.unknown and (before in _LIVE) != (now.value in _LIVE)
