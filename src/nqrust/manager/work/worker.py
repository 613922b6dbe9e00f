"""Runs pending operations: one at a time per VM, several VMs at once, and of one host a part of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import structlog
from sqlalchemy import ColumnElement, case, func, literal, or_, select, update

from nqrust.manager import metrics
from nqrust.manager.clock import now
from nqrust.manager.core.core import Core
from nqrust.manager.errors import DatabaseAway
from nqrust.manager.store.tables import Operation, Vm
from nqrust.manager.vms import restarts
from nqrust.manager.work import drive

log = structlog.get_logger("nqrust.manager.worker")

AT_ONCE = 32
AT_ONE_HOST = 8
"""A host that does not answer keeps the rest of the places free for others."""
WITHOUT_HOST = 16
"""Operations of VMs that were on no host when they began: they may all meet the same host."""
SWEEP_SECONDS = 1.0
NEVER_AHEAD = restarts.LONGEST_PAUSE + timedelta(minutes=1)
"""No operation waits that long. One that seems to was recorded while the clock was ahead, and is due."""


class Worker:
    """`run` continues until cancelled. Only the leader calls it, so no other process runs operations meanwhile."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._places: dict[str, str] = {}  # VM -> its host when its operation began, or ""

    async def run(self) -> None:
        try:
            await self._take_over()
            while True:
                self._core.wake.clear()
                await self._dispatch()
                try:
                    await asyncio.wait_for(self._core.wake.wait(), SWEEP_SECONDS)
                except (asyncio.TimeoutError, TimeoutError):
                    pass
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            self._tasks.clear()
            self._places.clear()

    async def _take_over(self) -> None:
        """Reset the previous leader's running operations; every agent verb may be repeated."""
        async with self._core.db.transaction() as session:
            await session.execute(update(Operation).where(Operation.state == "running").values(state="pending", not_before=now()))

    async def _dispatch(self) -> None:
        room = AT_ONCE - len(self._tasks)
        if room <= 0:
            return
        async with self._core.db.transaction() as session:
            # The newest of each VM: the current request, not earlier ones.
            newest = (
                select(func.max(Operation.id).label("id"), Operation.vm_id)
                .where(Operation.state == "pending")
                .group_by(Operation.vm_id)
                .subquery()
            )
            place = func.coalesce(Vm.host_id, "")
            order = (Operation.not_before, Operation.id)  # a retry waits behind those that were due before it
            due = (
                select(
                    newest.c.id,
                    newest.c.vm_id,
                    place.label("place"),
                    Operation.not_before,
                    func.row_number().over(partition_by=place, order_by=order).label("turn"),
                )
                .join(Operation, Operation.id == newest.c.id)
                .outerjoin(Vm, Vm.id == newest.c.vm_id)
                .where(
                    or_(Operation.not_before <= func.now(), Operation.not_before > func.now() + NEVER_AHEAD),
                    Operation.vm_id.notin_(list(self._tasks)),
                )
                .subquery()
            )
            fits = (
                select(due.c.id, due.c.vm_id, due.c.place)
                .where(due.c.turn <= self._room_at(due.c.place))
                .order_by(due.c.not_before, due.c.id)
                .limit(room)
            )
            found = (await session.execute(fits)).all()
        for operation_id, vm_id, host_id in found:
            self._places[vm_id] = host_id
            self._tasks[vm_id] = asyncio.create_task(self._one(operation_id, vm_id))
        metrics.OPEN_OPERATIONS.set(len(self._tasks))

    def _room_at(self, place: ColumnElement[str]) -> ColumnElement[int]:
        """Return how many more operations may run there."""
        used = Counter(self._places.values())
        room = {host_id: AT_ONE_HOST - count for host_id, count in used.items()} | {"": WITHOUT_HOST - used[""]}
        return case({host_id: literal(count) for host_id, count in room.items()}, value=place, else_=literal(AT_ONE_HOST))

    async def _one(self, operation_id: int, vm_id: str) -> None:
        try:
            if await drive.claim(self._core, operation_id, vm_id):
                await drive.run(self._core, operation_id)
        except DatabaseAway:
            # The operation stays `running`; losing the database also ends the leadership, and the next leader resets it.
            log.warning("database went away during an operation", vm=vm_id)
            await self._release(operation_id)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("operation could not be run", vm=vm_id)
            await self._release(operation_id)
        finally:
            self._tasks.pop(vm_id, None)
            self._places.pop(vm_id, None)
            self._core.wake.set()

    async def _release(self, operation_id: int) -> None:
        """Put an operation back in line, waiting for the database if necessary."""
        while True:
            await asyncio.sleep(1.0)
            try:
                async with self._core.db.transaction() as session:
                    await session.execute(
                        update(Operation)
                        .where(Operation.id == operation_id, Operation.state == "running")
                        .values(state="pending", not_before=now())
                    )
                return
            except DatabaseAway:
                continue
