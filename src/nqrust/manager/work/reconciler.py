"""The reconciler: every few seconds it compares the actual with the wanted state and acts.

It never changes a VM directly: it records an operation, as a user's request would, and the worker runs it. It removes only
remains of deleted VMs, TAPs and canaries at the agent directly. A VM without a row is reported and not changed.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import TypeVar

import structlog
from sqlalchemy import func, select

from nqrust.contract.agent import Inventory, VmStatus
from nqrust.contract.hosts import HostState
from nqrust.contract.vms import VM_ID_PATTERN, DesiredState, PortForward, RestartPolicy, VmState
from nqrust.manager import metrics, operations
from nqrust.manager.clock import now
from nqrust.manager.core.agents import AgentFailure
from nqrust.manager.core.core import Core
from nqrust.manager.core.liveness import host_state
from nqrust.manager.errors import DatabaseAway
from nqrust.manager.store.tables import SPEC, Host, Operation, Vm
from nqrust.manager.unknown_vms import service as unknown_vms
from nqrust.manager.vms import observing, tombstones
from nqrust.manager.volumes import service as volumes
from nqrust.manager.work import acts, diff
from nqrust.manager.work.turns import AgentAction, Turns

log = structlog.get_logger("nqrust.manager.reconcile")

T = TypeVar("T")

_ASK_AT_ONCE = 16
_ASK_SECONDS = 10.0
_MOST_VMS = 10_000  # of one host


class Reconciler:
    """`run` continues until cancelled; `once` is one pass. Without `acts` it only records what it sees."""

    def __init__(self, core: Core, acts: bool = True) -> None:
        self._core, self._acts = core, acts
        self._taps_seen: dict[tuple[str, str], datetime] = {}
        self._told: set[tuple[str, str]] = set()
        self._turns = Turns()

    async def run(self) -> None:
        try:
            await self._passes()
        finally:
            await self._turns.close()

    async def _passes(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self.once()
            except DatabaseAway:
                log.warning("database away, pass skipped")
            except Exception:
                log.exception("reconcile pass went wrong")
            metrics.RECONCILE_SECONDS.observe(time.monotonic() - began)
            await asyncio.sleep(max(0.1, self._core.settings.reconcile_seconds - (time.monotonic() - began)))

    async def once(self) -> list[diff.Action]:
        """Run one pass and return the decisions."""
        at = now()
        rows, hosts = await self._rows()
        free = await volumes.free(self._core)
        inventories = await self._inventories(hosts)
        await _each("VolumesObserved", inventories, lambda found: volumes.observed(self._core, found, free))
        unmade = {row.id: row.host_id for row in rows if not row.made}
        disks = {host: [vm.id for vm in one.vms if vm.disk and unmade.get(vm.id) == host] for host, one in inventories.items()}
        if any(disks.values()):
            await _each("DisksObserved", disks, lambda found: observing.disks(self._core, found))
        host_rows = [
            diff.HostRow(
                id=host.id,
                name=host.name,
                boot_id=host.boot_id,
                state=host_state(host.last_seen_at, at, self._core.started_at),
                stored=HostState(host.state),
            )
            for host in hosts
        ]
        self._watch_taps(rows, inventories, at)
        deleted = await tombstones.of(self._core, diff.strangers(rows, inventories))
        actions = diff.diff(rows, host_rows, inventories, at, self._taps_seen, deleted)
        by_id = {host.id: host for host in hosts}
        unknown: dict[str, list[VmStatus]] = {host_id: [] for host_id in inventories}
        for action in actions:
            if isinstance(action, diff.Unrecorded):
                unknown[action.host_id].append(action.status)
        await _each("UnknownVms", unknown, lambda found: unknown_vms.observed(self._core, found))
        await _each("TombstonesObserved", inventories, lambda found: tombstones.observed(self._core, found))
        actions = [action for action in actions if not isinstance(action, diff.Unrecorded)]
        if not self._acts:
            actions = [seen for action in actions if (seen := diff.only_seen(action)) is not None]

        async def carry_out(action: diff.Action) -> None:
            metrics.RECONCILE_ACTIONS.labels(type(action).__name__).inc()
            await acts.carry_out(self._core, action, by_id, self._told)

        at_agents: list[AgentAction] = []
        for action in actions:
            if isinstance(action, AgentAction):
                at_agents.append(action)
            else:
                await _apart(type(action).__name__, carry_out(action))
        await self._turns.take(at_agents, carry_out)
        return actions

    async def _rows(self) -> tuple[list[diff.VmRow], list[Host]]:
        """Read only the needed columns, not objects: there may be ten thousand rows."""
        at, near = now(), diff.RETRY_FAILED_AFTER  # a later time is of a clock that was ahead, and hides no other
        failed = (
            select(Operation.vm_id, func.max(Operation.finished_at).label("at"))
            .where(Operation.state == "failed", Operation.finished_at.between(at - near, at + near))
            .group_by(Operation.vm_id)
            .subquery()
        )
        columns = (
            Vm.id,
            Vm.name,
            Vm.host_id,
            Vm.desired_state,
            Vm.state,
            Vm.generation,
            SPEC["autostart"].as_boolean(),
            SPEC["restart_policy"].as_string(),
            Vm.host_boot_id,
            Vm.restarts,
            Vm.restarted_at,
            Vm.started_at,
            failed.c.at,
            SPEC["forwards"],
            volumes.UNSETTLED,
            Vm.made,
        )
        async with self._core.db.transaction() as session:
            # Hosts first, then open operations, then rows: a change in between makes a row look busy or newer.
            hosts = list(await session.scalars(select(Host)))
            open_ones = select(Operation.vm_id).where(Operation.state.in_(operations.OPEN))
            busy = set(await session.scalars(open_ones))
            query = select(*columns).outerjoin(failed, failed.c.vm_id == Vm.id)
            found = (await session.execute(query)).all()
        rows = [
            diff.VmRow(
                id=row[0],
                name=row[1],
                host_id=row[2],
                desired=DesiredState(row[3]),
                state=VmState(row[4]),
                generation=row[5],
                busy=row[0] in busy,
                autostart=row[6],
                policy=RestartPolicy(row[7]),
                host_boot_id=row[8],
                restarts=row[9],
                restarted_at=row[10],
                started_at=row[11],
                failed_at=row[12],
                forwards=diff.ports(PortForward.model_construct(**one) for one in row[13]),
                unsettled=row[14],
                made=row[15],
            )
            for row in found
        ]
        return rows, hosts

    async def _inventories(self, hosts: list[Host]) -> dict[str, Inventory]:
        """Return the inventories of hosts that answer in time. All are asked at once."""
        gate = asyncio.Semaphore(_ASK_AT_ONCE)

        async def ask(host: Host) -> tuple[str, Inventory | None]:
            async with gate:
                try:
                    inventory = await asyncio.wait_for(self._core.agent_of(host).inventory(), _ASK_SECONDS)
                except (AgentFailure, asyncio.TimeoutError, TimeoutError) as error:
                    log.debug("no inventory", host=host.name, why=str(error))
                    return host.id, None
                except Exception as error:
                    log.error("inventory cannot be used", host=host.name, why=repr(error)[:500])
                    return host.id, None
            if inventory.host_id not in (None, host.id):
                # Another host's agent answers at that address: acting on its answer would affect the wrong host.
                log.warning("another host answers there", host=host.name, url=host.url, answered=inventory.host_id)
                return host.id, None
            if inventory.boot_id != host.boot_id:
                log.info("waits until the new boot is registered", host=host.name)
                return host.id, None
            return host.id, inventory

        answers = await asyncio.gather(*(ask(host) for host in hosts))
        return {host_id: _sane(inventory) for host_id, inventory in answers if inventory is not None}

    def _watch_taps(self, rows: list[diff.VmRow], inventories: dict[str, Inventory], at: datetime) -> None:
        """Remember when each orphan TAP was first seen, and forget those that are gone."""
        by_id = {row.id: row for row in rows}
        current = {
            (host_id, tap.name)
            for host_id, inventory in inventories.items()
            for tap in diff.orphan_taps(host_id, by_id, {s.id: s for s in inventory.vms}, inventory.taps)
        }
        self._taps_seen = {key: self._taps_seen.get(key, at) for key in current}


def _sane(inventory: Inventory) -> Inventory:
    """Drop entries without a valid VM id, and limit their number. A host that sends them must not block other hosts."""
    vms = [_bounded(vm) for vm in inventory.vms if re.fullmatch(VM_ID_PATTERN, vm.id)]
    taps = [tap for tap in inventory.taps if tap.vm_id is None or re.fullmatch(VM_ID_PATTERN, tap.vm_id)]
    return inventory.model_copy(update={"vms": vms[:_MOST_VMS], "taps": taps[:_MOST_VMS]})


def _bounded(vm: VmStatus) -> VmStatus:
    fits = all(number is None or 0 <= number < 2**31 for number in (vm.vcpus, vm.memory_mib))
    return vm if fits else vm.model_copy(update={"vcpus": None, "memory_mib": None})


async def _each(what: str, found: Mapping[str, T], work: Callable[[Mapping[str, T]], Awaitable[None]]) -> None:
    """Do `work` for all hosts at once. If that fails, do it host by host, so that one host's report stops no other's.

    Raises DatabaseAway.
    """
    try:
        await work(found)
    except DatabaseAway:
        raise
    except Exception as error:
        log.error("report cannot be used, each host alone now", action=what, why=repr(error)[:500])
        for host_id, one in found.items():
            await _apart(what, work({host_id: one}))


async def _apart(what: str, work: Awaitable[None]) -> None:
    """Isolate failures of one VM or host from the others. Raises DatabaseAway."""
    try:
        await work
    except DatabaseAway:
        raise
    except Exception:
        log.exception("action went wrong, the next pass tries again", action=what)
