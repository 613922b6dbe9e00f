"""Runs pending operations: one at a time per VM, several VMs at once."""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy import func, select, update

from nqrust.manager import metrics
from nqrust.manager.clock import now
from nqrust.manager.core.core import Core
from nqrust.manager.errors import DatabaseAway
from nqrust.manager.store.tables import Operation
from nqrust.manager.work import drive

log = structlog.get_logger("nqrust.manager.worker")

AT_ONCE = 16
SWEEP_SECONDS = 1.0


class Worker:
    """`run` continues until cancelled. Only the leader calls it, so no other process runs operations meanwhile."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._tasks: dict[str, asyncio.Task[None]] = {}

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
            due = (
                select(newest.c.id, newest.c.vm_id)
                .join(Operation, Operation.id == newest.c.id)
                .where(Operation.not_before <= func.now(), Operation.vm_id.notin_(list(self._tasks)))
                .order_by(newest.c.id)
                .limit(room)
            )
            found = (await session.execute(due)).all()
        for operation_id, vm_id in found:
            self._tasks[vm_id] = asyncio.create_task(self._one(operation_id, vm_id))
        metrics.OPEN_OPERATIONS.set(len(self._tasks))

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
