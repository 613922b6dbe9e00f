"""Runs one operation: asks the agent and records the result. Every exit leaves the result in the row."""

from __future__ import annotations

from datetime import timedelta, timezone

import structlog
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from nqrust.contract.agent import ADDRESS_TAKEN, DISK_MISSING, VmStatus
from nqrust.contract.text import plain
from nqrust.contract.vms import DesiredState, RestartPolicy, StopRequest, VmState
from nqrust.manager import events, metrics, operations
from nqrust.manager.clock import now
from nqrust.manager.core.agents import AgentAway, AgentSaidNo
from nqrust.manager.core.core import Core
from nqrust.manager.errors import DatabaseAway
from nqrust.manager.operations import DEADLINES
from nqrust.manager.store.tables import Host, Operation, Vm
from nqrust.manager.vms import observing, placement, snapshots, tombstones
from nqrust.manager.vms import volumes as vm_volumes
from nqrust.manager.vms.schedule import NoHost
from nqrust.manager.volumes import service as volumes
from nqrust.manager.work.acts import ACTOR

log = structlog.get_logger("nqrust.manager.operations")

_TRIES_WHEN_REFUSED = 4
_SLOWEST_RETRY = timedelta(seconds=30)
_STARTS = ("create", "start", "restart")
_WAITS = "The manager starts the VM once its host answers."
_SNAPSHOTS_EXPIRE = timedelta(days=1)  # after their deadline: a host takes a few at a time, so many queue for hours
_FULL = 507  # the host's disk is: RFC 4918, 11.5
_RETRIED = {408, 409, 423, 425, 429, 500, 502, 503, 504}


class Again(Exception):
    """Not possible now; retry until the deadline. `limited`: only a few times. `away`: its agent does not answer."""

    def __init__(self, reason: str, limited: bool = False, away: bool = False) -> None:
        self.limited, self.away = limited, away
        super().__init__(reason)


class GivenUp(Exception):
    """It is not possible."""


async def claim(core: Core, operation_id: int, vm_id: str) -> bool:
    """Claim a pending operation. Returns False if it is not pending any more. Older pending ones are superseded."""
    async with core.db.transaction() as session:
        await session.execute(
            update(Operation)
            .where(Operation.vm_id == vm_id, Operation.state == "pending", Operation.id < operation_id)
            .values(state="superseded", finished_at=now())
        )
        taken = await session.execute(
            update(Operation)
            .where(Operation.id == operation_id, Operation.state == "pending")
            .values(state="running", attempts=Operation.attempts + 1)
            .returning(Operation.id)
        )
        mine = taken.first() is not None
        kind = await session.scalar(select(Operation.kind).where(Operation.id == operation_id)) if mine else None
        if kind is not None and kind not in ("snapshot", "forget"):
            await snapshots.superseded(session, vm_id)
        return mine


async def run(core: Core, operation_id: int) -> None:
    """Run a claimed operation to its end, or put it back for later."""
    async with core.db.transaction() as session:
        operation = await session.get(Operation, operation_id)
        vm = await session.get(Vm, operation.vm_id) if operation else None
    if operation is None:
        return
    if vm is None:
        await _close(core, operation, "superseded", "")
        return
    bound = log.bind(vm=vm.id, vm_name=vm.name, operation=operation.id, kind=operation.kind)
    try:
        if operation.kind == "delete":
            await _delete(core, vm, operation)
        elif operation.kind in _STARTS:
            await _start(core, vm, operation)
        elif operation.kind == "update":
            await _update(core, vm, operation)
        elif operation.kind in snapshots.KINDS:
            await _snapshot(core, vm, operation)
        else:
            await _verb(core, vm, operation)
    except Again as error:
        await _put_off(core, vm, operation, error)
    except NoHost as error:
        await _put_off(core, vm, operation, Again(str(error))) if error.later else await _fail(core, vm, operation, str(error))
    except AgentAway as error:
        await _put_off(core, vm, operation, Again(str(error), away=True))
    except AgentSaidNo as error:
        if error.status in _RETRIED:
            await _put_off(core, vm, operation, Again(str(error), limited=True))
        elif error.problem.code == DISK_MISSING or (error.status == _FULL and operation.kind in _STARTS):
            kept = error.problem.code == DISK_MISSING or (vm.spec.autostart and vm.spec.restart_policy is not RestartPolicy.never)
            await _fail(core, vm, operation, f"{error} {error.problem.cure}", waits=kept and _to_run(vm, operation))
        else:
            await _fail(core, vm, operation, str(error))
    except GivenUp as error:
        await _fail(core, vm, operation, str(error))
    except DatabaseAway:
        raise
    except Exception as error:
        bound.exception("operation went wrong")
        await _put_off(core, vm, operation, Again(f"internal error: {type(error).__name__}", limited=True))


async def _start(core: Core, vm: Vm, operation: Operation) -> None:
    async with core.db.transaction() as session:
        hosts = await placement.lock_hosts(session)
        row = await session.get(Vm, vm.id, with_for_update=True)
        if row is None:
            return
        desired_running = row.desired_state == DesiredState.running.value
        host = await placement.place(core, session, row, hosts)
        if row.generation == operation.generation and desired_running and operation.kind != "restart":
            row.state = VmState.starting.value
        spec = await placement.specification(session, row, run=desired_running)
    agent = core.agent_of(host)
    if operation.kind == "restart" and not operation.params.get("stopped"):
        try:
            await agent.stop_vm(vm.id, _stop_request(operation), spec.generation)
        except AgentSaidNo as error:
            if error.status != 404:
                raise
        async with core.db.transaction() as session:
            # Remembered, so that a crash from here on does not stop the VM a second time after it came up.
            current = await session.get(Operation, operation.id)
            if current is not None:
                current.params = {**current.params, "stopped": True}
            row = await session.get(Vm, vm.id, with_for_update=True)
            if row is not None:
                observing.stopped(row)
    try:
        status = await agent.put_vm(spec)
    except AgentSaidNo as error:
        if error.problem.code != ADDRESS_TAKEN:
            raise
        await placement.give_up_address(core, vm.id, host.id)
        raise Again(str(error), limited=True) from error
    if spec.run and status.state == "failed":
        raise GivenUp(f"It did not start: {status.exit_reason or 'the VMM ended at once'}.")
    async with core.db.transaction() as session:
        row = await session.get(Vm, vm.id, with_for_update=True)
        if row is not None:
            observing.observe(session, row, host, status, operation.generation)
            await vm_volumes.settled(session, row, host, spec)
        await _done(session, operation)


async def _update(core: Core, vm: Vm, operation: Operation) -> None:
    """Apply changes that need no start: forwards and limits of a running VM, volumes of a stopped one.

    This operation does not change whether it runs.
    """
    async with core.db.transaction() as session:
        row = await session.get(Vm, vm.id)
        host = await session.get(Host, row.host_id) if row and row.host_id else None
        spec = await placement.specification(session, row, run=False) if row else None
    if host is None or spec is None:
        raise GivenUp("It is on no host.")
    await core.agent_of(host).put_vm(spec)
    async with core.db.transaction() as session:
        row = await session.get(Vm, vm.id, with_for_update=True)
        if row is not None:
            await vm_volumes.settled(session, row, host, spec)
            row.observed_generation = max(row.observed_generation, operation.generation)
            if operation.attempts > 1 and row.generation == operation.generation:
                row.error = ""  # the message of earlier attempts
        await _done(session, operation)


async def _snapshot(core: Core, vm: Vm, operation: Operation) -> None:
    expires = operation.deadline + _SNAPSHOTS_EXPIRE
    if operation.kind != "restore" and now() >= expires:  # its host may have restored the VM, and says so
        # From a restored database: the name may be that of another snapshot by now.
        raise GivenUp(f"The request expired at {expires.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC.")
    async with core.db.transaction() as session:
        row = await session.get(Vm, vm.id)
        host = await session.get(Host, row.host_id) if row and row.host_id else None
        generation = row.generation if row else operation.generation
    if host is None:
        raise GivenUp("It is on no host.")
    found = await snapshots.ask(core.agent_of(host), vm.id, operation, generation)
    async with core.db.transaction() as session:
        row = await session.get(Vm, vm.id, with_for_update=True)
        if row is not None:
            if isinstance(found, VmStatus):
                observing.observe(session, row, host, found, operation.generation)
            row.observed_generation = max(row.observed_generation, operation.generation)
            await snapshots.note(session, row, operation, found)
            if operation.attempts > 1:
                row.error = ""  # the message of earlier attempts
        await _done(session, operation)


async def _verb(core: Core, vm: Vm, operation: Operation) -> None:
    """stop, pause, resume."""
    async with core.db.transaction() as session:
        row = await session.get(Vm, vm.id)
        host = await session.get(Host, row.host_id) if row and row.host_id else None
        generation = row.generation if row else operation.generation  # the newest, as a specification has it
    if host is None:
        if operation.kind != "stop":
            raise GivenUp("It is on no host.")
        status = VmStatus(id=vm.id, state="stopped", scope="")
    else:
        agent = core.agent_of(host)
        try:
            if operation.kind == "stop":
                status = await agent.stop_vm(vm.id, _stop_request(operation), generation)
            elif operation.kind == "pause":
                status = await agent.pause_vm(vm.id, generation)
            else:
                status = await agent.resume_vm(vm.id, generation)
        except AgentSaidNo as error:
            if error.status != 404 or operation.kind != "stop":
                raise
            status = VmStatus(id=vm.id, state="stopped", scope="")
    if operation.kind == "stop" and status.state in ("running", "paused"):
        raise Again("The VM still runs.", limited=True)
    async with core.db.transaction() as session:
        row = await session.get(Vm, vm.id, with_for_update=True)
        if row is not None and host is not None:
            observing.observe(session, row, host, status, operation.generation)
        elif row is not None:
            row.observed_generation = operation.generation
            if row.generation == operation.generation:
                row.state = VmState.stopped.value
        await _done(session, operation)


def _stop_request(operation: Operation) -> StopRequest:
    fields = {key: operation.params[key] for key in ("force", "timeout_seconds") if key in operation.params}
    return StopRequest(**fields)


async def _delete(core: Core, vm: Vm, operation: Operation) -> None:
    """Delete at the agent first, and the row last: after a crash in between, the row still shows the pending work."""
    async with core.db.transaction() as session:
        row = await session.get(Vm, vm.id)
        host = await session.get(Host, row.host_id) if row and row.host_id else None
        saving = await placement.specification(session, row, run=False) if row and volumes.to_be_saved(row) else None
    left_behind = ""
    if host is not None and saving is not None:  # even with force: its host would delete it later
        await core.agent_of(host).put_vm(saving)
    there: set[str] | None = None
    if host is not None:
        try:
            await core.agent_of(host).delete_vm(vm.id)
            there = await volumes.kept_there(core.agent_of(host), vm)
        except AgentSaidNo as error:
            if error.status != 404:
                raise
        except AgentAway:
            if not operation.params.get("force"):
                raise
            left_behind = f" Host {host.name} did not answer. What is left there is removed when it is back."
    async with core.db.transaction() as session:
        row = await session.get(Vm, vm.id, with_for_update=True)
        await _done(session, operation)
        if row is not None:
            if there and host is not None:
                await volumes.left(session, row, there)
                left_behind += f" Kept on host {host.name}: {', '.join(sorted(there))}."
            await tombstones.record(session, row.id, row.name, row.host_id, operation.actor)
            if host is None or there is not None:
                await tombstones.confirm(session, row.id)
            events.record(session, row, "Deleted", f"VM {row.name} was deleted.{left_behind}")
            await session.delete(row)


async def _done(session: AsyncSession, operation: Operation) -> None:
    metrics.OPERATIONS.labels(operation.kind, "done").inc()
    await session.execute(update(Operation).where(Operation.id == operation.id).values(state="done", error="", finished_at=now()))


async def _close(core: Core, operation: Operation, state: str, error: str) -> None:
    async with core.db.transaction() as session:
        await session.execute(
            update(Operation).where(Operation.id == operation.id).values(state=state, error=error, finished_at=now())
        )


async def _put_off(core: Core, vm: Vm, operation: Operation, again: Again) -> None:
    attempts, reason = operation.attempts, plain(str(again))
    if _ends(operation, again):
        waits = again.away and vm.spec.autostart and _to_run(vm, operation)
        await _fail(core, vm, operation, f"{sentence(reason)} {_WAITS}" if waits else reason, waits=waits)
        return
    pause = min(_SLOWEST_RETRY, timedelta(seconds=0.5 * 2 ** min(attempts, 10)))
    log.warning("operation put off", vm=vm.id, kind=operation.kind, reason=reason, seconds=pause.total_seconds())
    deadline = min(operation.deadline, now() + DEADLINES[operation.kind])  # one recorded while the clock was ahead is too late
    again_at = {"state": "pending", "not_before": now() + pause, "deadline": deadline, "error": reason}
    async with core.db.transaction() as session:
        await session.execute(update(Operation).where(Operation.id == operation.id).values(**again_at))
        await session.execute(
            update(Vm)
            .where(Vm.id == vm.id, Vm.generation == operation.generation)
            .values(error=f"{sentence(reason)} The manager will try again.")
        )


def _to_run(vm: Vm, operation: Operation) -> bool:
    """Return whether the reconciler repeats the start. It does nothing for a VM that was to be made only."""
    return operation.kind in _STARTS and vm.desired_state == DesiredState.running.value


def _ends(operation: Operation, again: Again) -> bool:
    """Return whether it is not tried again. The reconciler's own starts have more patience with refusals than those of a person,
    who reads the answer: at a boot, a host may not have its bridge yet."""
    tried, late = again.limited and operation.attempts >= _TRIES_WHEN_REFUSED, now() >= operation.deadline
    patient = again.limited and operation.kind == "start" and operation.actor == ACTOR
    return (tried and late) if patient else (tried or late)


def sentence(text: str) -> str:
    """Return `text` cleaned for storage, with a capital at the start and a full stop at the end."""
    text = plain(text).strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


async def _fail(core: Core, vm: Vm, operation: Operation, reason: str, waits: bool = False) -> None:
    """Give up: record the reason in the VM, and reset the wanted state to a possible one. `waits`: the reconciler starts it once
    its disk is there or has room, or once its host answers."""
    reason = sentence(reason)
    metrics.OPERATIONS.labels(operation.kind, "failed").inc()
    async with core.db.transaction() as session:
        await session.execute(
            update(Operation).where(Operation.id == operation.id).values(state="failed", error=reason, finished_at=now())
        )
        row = await session.get(Vm, vm.id, with_for_update=True)
        if row is None or row.generation != operation.generation:
            return
        row.error = reason
        row.observed_generation = operation.generation
        if operation.kind in snapshots.KINDS:
            await snapshots.failed(session, row, operation, reason)
        elif operation.kind == "update":
            row.change(**operation.params)
            await vm_volumes.went_back(session, row, operation)
        elif operation.kind == "pause":
            row.desired_state, row.state = DesiredState.running.value, VmState.running.value
        elif operation.kind == "resume":
            row.desired_state, row.state = DesiredState.paused.value, VmState.paused.value
        elif waits and operation.kind != "delete":
            observing.stopped(row)
            row.state = VmState.stopped.value
        else:
            row.state = VmState.failed.value
            host = await session.get(Host, row.host_id) if row.host_id and operation.kind in _STARTS else None
            if host is not None:
                row.host_boot_id = host.boot_id  # its next boot tries again
        last = await operations.failed_before(session, row.id, operation.id) if operation.actor == ACTOR else None
        if last is not None and last.error == reason:
            return  # the reconciler repeats it each minute
        message = f"VM {row.name}: {operation.kind} failed. {reason}"
        events.record(session, row, "OperationFailed", message, "error")
