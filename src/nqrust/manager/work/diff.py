"""Compares the actual with the wanted state. Pure: rows, inventories and a time in, actions out.

The caller reads the rows before it asks for the inventories. A VM that runs in the row and is stopped in the inventory did
therefore stop, unless somebody requested that in between. Every action carries the row's generation, and its executor checks
the row again.

A missing row never stops or removes anything. Only recorded deletes and expired canaries are removed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from nqrust.contract.agent import BELIEVED_GENERATION, Inventory, TapStatus, VmStatus
from nqrust.contract.hosts import HostState
from nqrust.contract.names import canary_owner
from nqrust.contract.text import plain
from nqrust.contract.vms import DesiredState, PortForward, RestartPolicy, VmState
from nqrust.manager.vms import restarts

CANARY_GRACE = timedelta(minutes=10)
"""Counted from the scope's own start."""
TAP_GRACE = timedelta(seconds=30)
"""Counted from the first sighting; a TAP has no start time."""
RETRY_FAILED_AFTER = timedelta(seconds=60)


@dataclass(frozen=True)
class VmRow:
    """A VM's row. `busy`: an operation is open. `failed_at`: when the last operation failed. `host_boot_id`: of the host's boot in
    which it ran, or its start failed. `unsettled`: its host must still learn of a volume to attach or detach. `made`: its host
    has had its disk.
    """

    id: str
    name: str
    host_id: str | None
    desired: DesiredState
    state: VmState
    generation: int = 1
    busy: bool = False
    autostart: bool = True
    policy: RestartPolicy = RestartPolicy.on_failure
    host_boot_id: str | None = None
    restarts: int = 0
    restarted_at: datetime | None = None
    started_at: datetime | None = None
    failed_at: datetime | None = None
    forwards: frozenset[tuple[str, int, int]] = frozenset()
    unsettled: bool = False
    made: bool = False


@dataclass(frozen=True)
class HostRow:
    """`state`: from its silence, now. `stored`: the last recorded state."""

    id: str
    name: str
    boot_id: str
    state: HostState
    stored: HostState


@dataclass(frozen=True)
class Action:
    """Base of all."""


@dataclass(frozen=True)
class HostChanged(Action):
    host_id: str
    state: HostState


@dataclass(frozen=True)
class Unusable(Action):
    """The host's report cannot be compared with the rows, so nothing is done there. `why`: the error's name."""

    host_id: str
    why: str


@dataclass(frozen=True)
class VmAction(Action):
    """About a VM with a row, if its generation is unchanged and no operation is open."""

    vm_id: str
    generation: int


@dataclass(frozen=True)
class Observed(VmAction):
    """Update the row from the inventory."""

    status: VmStatus


@dataclass(frozen=True)
class Unknown(VmAction):
    """Its host is offline."""


@dataclass(frozen=True)
class Restart(VmAction):
    """It died and its policy restarts it, after `delay`. `reason` is for people."""

    reason: str
    delay: timedelta
    rebooted: bool = False


@dataclass(frozen=True)
class LeaveDead(VmAction):
    """It ended and does not restart. `failed`: it ended badly, not by a power-off or a reboot."""

    reason: str
    failed: bool
    exit_code: int | None = None


@dataclass(frozen=True)
class Ended(VmAction):
    """It should run again, but the reconciler may not act, or the disk is not there. The row shows it as stopped, and the wanted
    state stays."""

    reason: str
    without_disk: bool = False


@dataclass(frozen=True)
class Repeat(VmAction):
    """The wanted state is not reached and no operation is open: do `kind` (again)."""

    kind: str


@dataclass(frozen=True)
class Adopt(VmAction):
    """A scope on `host_id` belongs to a row without a host: a crash lost the placement."""

    host_id: str
    status: VmStatus


@dataclass(frozen=True)
class Behind(VmAction):
    """Its host knows a newer generation than the row: the database was restored. The row follows the host."""

    host_id: str
    status: VmStatus


@dataclass(frozen=True)
class Unrecorded(Action):
    """The host has a VM without a row for this host. The manager reports it and does not change it, running or not."""

    host_id: str
    status: VmStatus


@dataclass(frozen=True)
class FinishDelete(Action):
    """Somebody deleted the VM, and its host still has a part of it."""

    host_id: str
    vm_id: str
    name: str


@dataclass(frozen=True)
class RemoveCanary(Action):
    """A canary VM without a row outlived its grace period, because its nqr was killed."""

    host_id: str
    vm_id: str
    name: str


@dataclass(frozen=True)
class RemoveTap(Action):
    """The TAP of a stopped or deleted VM."""

    host_id: str
    tap: str


@dataclass(frozen=True)
class UnknownTap(Action):
    """The TAP of a VM without a row or a recorded delete. It is reported and not changed."""

    host_id: str
    tap: str
    vm_id: str


def diff(
    vms: Iterable[VmRow],
    hosts: Iterable[HostRow],
    inventories: Mapping[str, Inventory],
    now: datetime,
    taps_seen: Mapping[tuple[str, str], datetime],
    deleted: Collection[str] = (),
) -> list[Action]:
    """Return the actions. `inventories`: by host id, of the hosts that answered.

    `taps_seen`: when each (host, TAP) without a VM was first seen. `deleted`: ids of VMs with a recorded delete, at least those
    that hosts have and `vms` lacks. Nothing is done about a host that does not answer and is not yet offline.
    """
    rows = {vm.id: vm for vm in vms}
    by_host: dict[str | None, list[VmRow]] = {}
    for vm in rows.values():
        by_host.setdefault(vm.host_id, []).append(vm)
    actions: list[Action] = []
    for host in hosts:
        if host.state is not host.stored:
            actions.append(HostChanged(host.id, host.state))
        inventory = inventories.get(host.id)
        if inventory is None:
            if host.state is HostState.offline:
                actions += [Unknown(vm.id, vm.generation) for vm in by_host.get(host.id, []) if _lost_sight(vm)]
            continue
        try:
            seen = {status.id: status for status in inventory.vms}
            found = [one for vm in by_host.get(host.id, []) for one in _placed(vm, seen.get(vm.id), inventory.boot_id, now)]
            found += _strangers(host, rows, seen.values(), now, deleted)
            found += _taps(host, rows, seen, inventory.taps, now, taps_seen, deleted)
        except Exception as error:  # the agent is no more trusted than a guest, and the other hosts go on
            found = [Unusable(host.id, type(error).__name__)]
        actions += found
    return actions


def _lost_sight(vm: VmRow) -> bool:
    return not vm.busy and vm.state in (VmState.running, VmState.paused, VmState.starting, VmState.stopping)


def _placed(vm: VmRow, status: VmStatus | None, boot_id: str, now: datetime) -> list[Action]:
    """Decide about a VM of this host. Nothing starts where the VM had a disk and has none, as before its file system is mounted."""
    found = _known(vm, status, boot_id, now)
    if not vm.made or (status is not None and status.disk):
        return found
    if vm.state is not VmState.stopped and any(isinstance(one, Restart) for one in found):
        return [Ended(vm.id, vm.generation, restarts.WITHOUT_DISK, without_disk=True)]
    return [
        one for one in found if not (isinstance(one, Restart) or (isinstance(one, Repeat) and one.kind in ("start", "update")))
    ]


def _known(vm: VmRow, status: VmStatus | None, boot_id: str, now: datetime) -> list[Action]:
    """Decide about a known VM of this host. One with an open operation (such as its creation) is never touched."""
    if vm.busy:
        return []
    if vm.desired is DesiredState.deleted:
        return _repeat(vm, "delete", now)
    if status is not None and vm.generation < status.generation <= BELIEVED_GENERATION and vm.host_id is not None:
        return [Behind(vm.id, vm.generation, vm.host_id, status)]
    alive = status is not None and status.state in ("running", "paused")
    if vm.desired is DesiredState.stopped:
        if alive:
            return _repeat(vm, "stop", now)
        if vm.state in (VmState.stopped, VmState.failed):
            return _repeat(vm, "update", now) if vm.unsettled else []
        return [Observed(vm.id, vm.generation, status or VmStatus(id=vm.id, state="stopped", scope=""))]
    if alive:
        assert status is not None
        return _alive(vm, status, now)
    if vm.state is VmState.failed:
        # It failed with a reason; only a person, or a host's restart, tries again.
        if vm.autostart and vm.host_boot_id not in (None, boot_id):
            return [_dead(vm, status, boot_id, now)]
        return _repeat(vm, "update", now) if vm.unsettled else []
    # A paused VM that is gone has lost its memory: it cannot be paused again.
    if vm.desired is DesiredState.paused or vm.state in _HAD_LIFE:
        return [_dead(vm, status, boot_id, now)]
    return _repeat(vm, "start", now)


_HAD_LIFE = (VmState.running, VmState.paused, VmState.unknown, VmState.starting)


def _alive(vm: VmRow, status: VmStatus, now: datetime) -> list[Action]:
    if vm.desired is DesiredState.paused and status.state == "running":
        return _repeat(vm, "pause", now) if vm.state is not VmState.failed else []
    if vm.desired is DesiredState.running and status.state == "paused" and not status.waits_for_room:
        return _repeat(vm, "resume", now)
    if vm.forwards != ports(status.forwards):
        return _repeat(vm, "update", now)
    if vm.state.value != status.state:
        return [Observed(vm.id, vm.generation, status)]
    return []


def ports(forwards: Iterable[PortForward]) -> frozenset[tuple[str, int, int]]:
    """Return (protocol, host port, guest port) for comparison."""
    return frozenset((one.protocol, one.host_port, one.guest_port) for one in forwards)


def _dead(vm: VmRow, status: VmStatus | None, boot_id: str, now: datetime) -> Action:
    """Decide about a VM that should run and does not."""
    if vm.host_boot_id not in (None, boot_id):
        if vm.autostart:
            return Restart(vm.id, vm.generation, "its host was started again", timedelta(0), rebooted=True)
        return LeaveDead(vm.id, vm.generation, "Its host rebooted, and the VM has no autostart.", failed=False)
    clean = status is not None and status.state == "stopped"
    reason = plain(status.exit_reason) if status and status.exit_reason else "It ended for an unknown reason."
    if not restarts.comes_back(vm.policy, status):
        return LeaveDead(vm.id, vm.generation, reason, failed=not clean, exit_code=status.exit_code if status else None)
    return Restart(vm.id, vm.generation, reason, restarts.pause(vm.restarts, vm.started_at, now))


def only_seen(action: Action) -> Action | None:
    """Reduce a decision to recording the observed state, where nothing may be done."""
    if isinstance(action, Restart):
        return Ended(action.vm_id, action.generation, action.reason)
    kept = (HostChanged, Unusable, Observed, Unknown, LeaveDead, Adopt, Behind, Unrecorded, UnknownTap, Ended)
    return action if isinstance(action, kept) else None


def _repeat(vm: VmRow, kind: str, now: datetime) -> list[Action]:
    """Repeat the wanted change, but wait a minute after an agent refused it. `abs`: the clock may be set back since."""
    if vm.failed_at is not None and abs(now - vm.failed_at) < RETRY_FAILED_AFTER:
        return []
    return [Repeat(vm.id, vm.generation, kind)]


def _strangers(
    host: HostRow, rows: Mapping[str, VmRow], seen: Iterable[VmStatus], now: datetime, deleted: Collection[str]
) -> list[Action]:
    """Decide about VMs of the host that no row of this host explains."""
    actions: list[Action] = []
    for status in seen:
        row = rows.get(status.id)
        if row is not None and row.host_id == host.id:
            continue
        alive = status.state in ("running", "paused")
        if row is not None and row.host_id is None:
            if alive and not row.busy and row.desired is not DesiredState.deleted:
                actions.append(Adopt(row.id, row.generation, host.id, status))
            continue
        if row is None and status.id in deleted:
            actions.append(FinishDelete(host.id, status.id, status.name))
        elif row is None and canary_owner(status.name, status.tags):
            # Without a start time its age is unknown, and so nothing is done.
            if alive and status.started_at is not None and now - status.started_at >= CANARY_GRACE:
                actions.append(RemoveCanary(host.id, status.id, status.name))
        elif alive or status.disk:
            actions.append(Unrecorded(host.id, status))
    return actions


def _taps(
    host: HostRow,
    rows: Mapping[str, VmRow],
    seen: Mapping[str, VmStatus],
    taps: Iterable[TapStatus],
    now: datetime,
    taps_seen: Mapping[tuple[str, str], datetime],
    deleted: Collection[str],
) -> list[Action]:
    """Decide about TAPs whose ifalias names a VM that has no row on this host, or is stopped."""
    actions: list[Action] = []
    for tap in orphan_taps(host.id, rows, seen, taps):
        first = taps_seen.get((host.id, tap.name))
        if first is None or now - first < TAP_GRACE or tap.vm_id is None:
            continue
        row = rows.get(tap.vm_id)
        if tap.vm_id in deleted or (row is not None and row.host_id in (None, host.id)):
            actions.append(RemoveTap(host.id, tap.name))
        else:
            actions.append(UnknownTap(host.id, tap.name, tap.vm_id))
    return actions


def strangers(vms: Iterable[VmRow], inventories: Mapping[str, Inventory]) -> set[str]:
    """Return ids of VMs and TAP owners on hosts that `vms` lacks."""
    found = {vm.id for inventory in inventories.values() for vm in inventory.vms}
    found |= {tap.vm_id for inventory in inventories.values() for tap in inventory.taps if tap.vm_id}
    return found - {vm.id for vm in vms}


def orphan_taps(
    host_id: str, rows: Mapping[str, VmRow], seen: Mapping[str, VmStatus], taps: Iterable[TapStatus]
) -> list[TapStatus]:
    """Return TAPs of owners without a row on this host (or stopped, without an open operation) and without a live scope."""
    result = []
    for tap in taps:
        if tap.vm_id is None:
            continue
        status = seen.get(tap.vm_id)
        if status is not None and (status.state in ("running", "paused") or tap.vm_id not in rows):
            continue
        row = rows.get(tap.vm_id)
        elsewhere = row is not None and row.host_id not in (None, host_id)
        unwanted = row is not None and not row.busy and row.desired is DesiredState.stopped
        if row is None or elsewhere or unwanted:
            result.append(tap)
    return result
