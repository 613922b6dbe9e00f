"""Carries out the reconciler's decisions. Each act checks the row again, in a transaction, before it acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.agent import REBOOTED, VmStatus
from nqrust.contract.hosts import HostState
from nqrust.contract.text import plain
from nqrust.contract.vms import DesiredState, VmState
from nqrust.manager import events, operations
from nqrust.manager.clock import now
from nqrust.manager.core.agents import AgentSaidNo
from nqrust.manager.core.core import Core
from nqrust.manager.store.tables import Host, Tombstone, Vm
from nqrust.manager.unknown_vms import adoption
from nqrust.manager.vms import observing, restarts, tombstones
from nqrust.manager.volumes import service as volumes
from nqrust.manager.work import diff

log = structlog.get_logger("nqrust.manager.reconcile")

ACTOR = "system:reconciler"
_MOST_TOLD = 10_000
_TOLD = {
    HostState.online: ("HostOnline", "Host {} is back.", "info"),
    HostState.degraded: ("HostDegraded", "Host {} has not reported for 30 seconds.", "warning"),
    HostState.offline: (
        "HostOffline",
        "Host {} has not reported for 5 minutes. The state of its VMs is unknown, and no other host starts them.",
        "error",
    ),
}


async def carry_out(core: Core, action: diff.Action, hosts: Mapping[str, Host], told: set[tuple[str, str]]) -> None:
    """Carry out a decision. `told`: events that were recorded and are not repeated. Raises AgentFailure."""
    if isinstance(action, diff.HostChanged):
        await _host_changed(core, action)
    elif isinstance(action, diff.Adopt):
        await _adopt(core, action)
    elif isinstance(action, diff.Behind):
        await _behind(core, action, hosts[action.host_id])
    elif isinstance(action, diff.VmAction):
        await _vm(core, action)
    elif isinstance(action, (diff.FinishDelete, diff.RemoveCanary)):
        await _remove(core, action, hosts[action.host_id])
    elif isinstance(action, diff.UnknownTap):
        await _unknown_tap(core, action, hosts[action.host_id], told)
    elif isinstance(action, diff.Unusable):
        await _unusable(core, action, hosts[action.host_id], told)
    elif isinstance(action, diff.RemoveTap):
        await core.agent_of(hosts[action.host_id]).delete_tap(action.tap)
        log.info("orphan TAP removed", host=hosts[action.host_id].name, tap=action.tap)


async def _host_changed(core: Core, action: diff.HostChanged) -> None:
    async with core.db.transaction() as session:
        host = await session.get(Host, action.host_id, with_for_update={"key_share": True})
        if host is None or host.state == action.state.value:
            return
        host.state = action.state.value
        reason, message, severity = _TOLD[action.state]
        events.record(session, host, reason, message.format(host.name), severity)


async def _unchanged(session: AsyncSession, action: diff.VmAction) -> Vm | None:
    """Return the row, locked, if it is unchanged since the decision."""
    vm = await session.get(Vm, action.vm_id, with_for_update=True)
    if vm is None or vm.generation != action.generation or await operations.has_open(session, vm.id):
        return None
    return vm


async def _vm(core: Core, action: diff.VmAction) -> None:
    async with core.db.transaction() as session:
        vm = await _unchanged(session, action)
        if vm is None:
            return
        # A host can report another state in each pass.
        told = core.budgets.allow(vm.id, "Reconciled")
        if not told and isinstance(action, (diff.Restart, diff.Repeat)):
            log.debug("too many changes of this VM, a later pass does it", vm=vm.id)
            return
        record = events.record if told else events.forget
        if isinstance(action, diff.Observed):
            host = await session.get(Host, vm.host_id) if vm.host_id else None
            if host is not None:
                observing.observe(session, vm, host, action.status, None, record)
        elif isinstance(action, diff.Unknown):
            vm.state = VmState.unknown.value
            vm.error = "Its host does not answer."
            record(session, vm, "VmUnknown", f"The state of VM {vm.name} is unknown: its host is offline.", "warning")
        elif isinstance(action, diff.Restart):
            await _restart(session, vm, action)
        elif isinstance(action, diff.LeaveDead):
            observing.stopped(vm)
            vm.desired_state = DesiredState.stopped.value
            vm.state = (VmState.failed if action.failed else VmState.stopped).value
            vm.error = action.reason if action.failed else ""
            vm.exit_code = action.exit_code
            reason = "VmDied" if action.failed else "VmEnded"
            severity = "error" if action.failed else "info"
            record(session, vm, reason, f"VM {vm.name} ended. {action.reason}", severity)
        elif isinstance(action, diff.Ended):
            observing.stopped(vm)
            vm.state, vm.error = VmState.stopped.value, action.reason
            if action.without_disk:
                record(session, vm, "DiskMissing", f"VM {vm.name} does not start. {action.reason}", "error")
            else:
                message = f"VM {vm.name} ended, and the reconciler is off. {action.reason}"
                record(session, vm, "VmEnded", message, "warning")
        elif isinstance(action, diff.Repeat):
            wanted, error = DesiredState(vm.desired_state), vm.error
            last = await operations.failed_before(session, vm.id)
            # Each minute, if its host's disk is full.
            known = last is not None and (last.kind, last.actor) == (action.kind, ACTOR)
            await operations.enqueue(session, vm, action.kind, wanted, ACTOR)
            missed = wanted.value
            if action.kind == "update":
                vm.error, missed = error, "on its host"  # why it is as it is
            if not known:
                events.record(session, vm, "Reconciling", f"VM {vm.name} is not {missed} as it should be: {action.kind}.")
    core.wake.set()


async def _restart(session: AsyncSession, vm: Vm, action: diff.Restart) -> None:
    steady = vm.started_at is not None and now() - vm.started_at > restarts.STEADY_AFTER
    vm.restarts = 0 if action.rebooted else (1 if steady else vm.restarts + 1)
    vm.restarted_at = now()
    observing.stopped(vm)
    after = f" in {action.delay.total_seconds():.0f} s" if action.delay else ""
    if action.rebooted:
        events.record(session, vm, "VmAutostart", f"The manager restarts VM {vm.name}: {action.reason}.")
    elif action.reason == REBOOTED:
        events.record(session, vm, "VmRebooted", f"The guest of VM {vm.name} rebooted. The manager starts the VM{after}.")
    else:
        message = f"VM {vm.name} died. The manager restarts it{after}. {action.reason}"
        events.record(session, vm, "VmDied", message, "warning")
    await operations.enqueue(session, vm, "start", DesiredState.running, ACTOR, delay=action.delay)


async def _adopt(core: Core, action: diff.Adopt) -> None:
    async with core.db.transaction() as session:
        vm = await _unchanged(session, action)
        host = await session.get(Host, action.host_id)
        if vm is None or vm.host_id is not None or host is None:
            return
        taken = await _is_taken(session, action.status.ip, host, vm)
        vm.host_id = host.id
        vm.ip = None if taken else action.status.ip
        observing.observe(session, vm, host, action.status, None)
        events.record(session, vm, "VmAdopted", f"VM {vm.name} was found running on host {host.name}.")


async def _behind(core: Core, action: diff.Behind, host: Host) -> None:
    """Take over the host's record of a VM that is newer than the row, after a database restore."""
    if not core.budgets.allow(action.vm_id, "RecordBehind"):
        return
    found: dict[str, Any] = {"generation": action.status.generation}
    try:
        found = adoption.asked_for(await core.agent_of(host).vm_record(action.vm_id))
    except AgentSaidNo as error:
        if error.status != 404:
            raise  # otherwise its record cannot be read
    async with core.db.transaction() as session:
        vm = await _unchanged(session, action)
        if vm is None or vm.host_id != host.id:
            return
        was = vm.generation
        for name, value in found.items():
            setattr(vm, name, value)
        # A clean end needs no restart.
        follows = {"paused": DesiredState.paused, "running": DesiredState.running}
        wanted = follows.get(action.status.state, DesiredState.stopped)
        vm.desired_state = (DesiredState.running if action.status.waits_for_room else wanted).value
        vm.observed_generation = vm.generation
        if "spec" in found:
            await volumes.follow(session, vm)
        if await _is_taken(session, vm.ip, host, vm):
            vm.ip = None  # it gets a new one when it starts
        if action.status.state in follows or action.status.powered_off:
            observing.observe(session, vm, host, action.status, None)
        else:
            _ended(vm, host, action.status)
        message = (
            f"The record of VM {vm.name} is older than the data of host {host.name} (generation {was}, not {vm.generation}): "
            "the database was restored. The manager corrected the record."
        )
        events.record(session, vm, "RecordBehind", message, "warning")


async def _is_taken(session: AsyncSession, ip: str | None, host: Host, vm: Vm) -> bool:
    """Return whether another VM of the host has the address on record."""
    with session.no_autoflush:
        query = select(Vm.id).where(Vm.host_id == host.id, Vm.ip == ip, Vm.id != vm.id)
        return await session.scalar(query) is not None


def _ended(vm: Vm, host: Host, status: VmStatus) -> None:
    """Restart a VM that failed or rebooted if its policy says so or, if its host was started since, its autostart."""
    rebooted = vm.host_boot_id not in (None, host.boot_id)
    back = vm.spec.autostart if rebooted else restarts.comes_back(vm.spec.restart_policy, status)
    observing.stopped(vm)
    vm.desired_state = (DesiredState.running if back else DesiredState.stopped).value
    failed = status.state == "failed" and not back
    vm.state = (VmState.failed if failed else VmState.stopped).value
    vm.error = plain(status.exit_reason) if failed or back else ""
    vm.exit_code = status.exit_code


async def _remove(core: Core, action: diff.FinishDelete | diff.RemoveCanary, host: Host) -> None:
    """Remove a VM for a recorded delete or an expired canary."""
    async with core.db.transaction() as session:
        if await session.get(Vm, action.vm_id) is not None:
            return  # it got a row in the meantime
        name = action.name or action.vm_id
        if isinstance(action, diff.RemoveCanary):
            message = f"Host {host.name} has the canary {name}, whose nqr has ended. The manager deletes it."
            if core.budgets.allow(host.id, "CanaryRemoved"):
                events.record(session, host, "CanaryRemoved", message, "warning")
        else:
            tombstone = await session.get(Tombstone, action.vm_id)
            if tombstone is None:
                return
            if tombstone.confirmed_at is None and core.budgets.allow(host.id, "DeleteFinished"):
                message = f"Host {host.name} still has VM {name}, which {tombstone.deleted_by or 'somebody'} deleted. The manager removes it now."
                events.record(session, host, "DeleteFinished", message)
    await core.agent_of(host).delete_vm(action.vm_id)
    async with core.db.transaction() as session:
        await tombstones.confirm(session, action.vm_id)
    log.info("deleted VM removed", host=host.name, vm=action.vm_id)


def _first(core: Core, told: set[tuple[str, str]], host: Host, what: str, reason: str) -> bool:
    """Return whether to record the event now. One that the budget does not allow now is recorded in a later pass."""
    if (host.id, what) in told or not core.budgets.allow(host.id, reason):
        return False
    if len(told) >= _MOST_TOLD:
        told.clear()
    told.add((host.id, what))
    return True


async def _unknown_tap(core: Core, action: diff.UnknownTap, host: Host, told: set[tuple[str, str]]) -> None:
    if not _first(core, told, host, action.tap, "UnknownTap"):
        return
    async with core.db.transaction() as session:
        message = (
            f"Host {host.name} has the TAP {action.tap} of VM {action.vm_id}, which has no record here. It is left alone. "
            f"If nothing needs it, remove it on the host: ip link delete {action.tap}"
        )
        events.record(session, host, "UnknownTap", message, "warning")


async def _unusable(core: Core, action: diff.Unusable, host: Host, told: set[tuple[str, str]]) -> None:
    log.error("report cannot be used", host=host.name, why=action.why)
    if not _first(core, told, host, action.why, "ReportUnusable"):
        return
    async with core.db.transaction() as session:
        message = (
            f"The agent of host {host.name} sent a report that the manager cannot use ({action.why}). "
            "The manager changes nothing there. Check who controls that host."
        )
        events.record(session, host, "ReportUnusable", message, "error")
