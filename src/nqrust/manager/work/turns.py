"""Sends the reconciler's requests to agents: to one host one after the other, to several hosts at once.

A host that answers late, or not at all, holds up no other host. It gets few requests in a pass, a pass waits little for it, and
later passes ask nothing of it before the earlier requests end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import structlog

from nqrust.manager.core.agents import AgentAway, AgentFailure
from nqrust.manager.errors import DatabaseAway
from nqrust.manager.work import diff

log = structlog.get_logger("nqrust.manager.reconcile")

AgentAction = diff.Behind | diff.FinishDelete | diff.RemoveCanary | diff.RemoveTap
"""An action that asks an agent. All others only write to the database."""
MOST = 20
"""Requests to one host in a pass. The next passes send the rest."""
PASS_SECONDS = 5.0
"""How long a pass waits for its hosts."""
HOST_SECONDS = 60.0
"""For all requests of a pass to one host. One that deletes a VM may take 40."""
_HOSTS_AT_ONCE = 32

Work = Callable[[AgentAction], Awaitable[None]]
_Key = tuple[str, str]


class Turns:
    """The hosts that are being asked."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[None]] = {}
        self._refused: dict[str, set[_Key]] = {}
        self._gate = asyncio.Semaphore(_HOSTS_AT_ONCE)

    async def take(self, actions: Iterable[AgentAction], work: Work) -> None:
        """Do `work` for the actions of each host that is not being asked yet. Raises DatabaseAway."""
        by_host: dict[str, list[AgentAction]] = {}
        for action in actions:
            by_host.setdefault(action.host_id, []).append(action)
        self._refused = {host_id: keys for host_id, keys in self._refused.items() if host_id in by_host}
        mine = []
        for host_id, wanted in by_host.items():
            if host_id not in self._running:
                task = asyncio.create_task(self._host(host_id, wanted, work))
                self._running[host_id] = task
                task.add_done_callback(partial(self._ended, host_id))
                mine.append(task)
        if not mine:
            return
        done, late = await asyncio.wait(mine, timeout=PASS_SECONDS)
        if late:
            log.warning("hosts answer late, the pass goes on", hosts=len(late))
        for task in done:
            task.result()

    async def close(self) -> None:
        """End what still runs."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _host(self, host_id: str, wanted: list[AgentAction], work: Work) -> None:
        try:
            async with self._gate:
                await asyncio.wait_for(self._each(host_id, wanted, work), HOST_SECONDS)
        except (asyncio.TimeoutError, TimeoutError):
            log.warning("host takes too long, a later pass tries again", host=host_id)

    def _ended(self, host_id: str, task: asyncio.Task[None]) -> None:
        """Nobody waits for a late task: if nobody looks at its error, asyncio logs it as a fault."""
        del self._running[host_id]
        if not task.cancelled():
            task.exception()

    async def _each(self, host_id: str, wanted: list[AgentAction], work: Work) -> None:
        """Send the requests. Those that failed in the last pass come last, and so they do not keep the rest from its turn."""
        before, failed = self._refused.get(host_id, set()), set[_Key]()
        self._refused[host_id] = failed
        for action in sorted(wanted, key=lambda one: _key(one) in before)[:MOST]:
            name = type(action).__name__
            try:
                await work(action)
            except AgentAway as error:
                failed.add(_key(action))
                log.info("agent does not answer, a later pass tries again", action=name, host=host_id, why=str(error))
                return
            except AgentFailure as error:
                failed.add(_key(action))
                log.info("agent did not do it, a later pass tries again", action=name, host=host_id, why=str(error))
            except DatabaseAway:
                raise
            except Exception:
                failed.add(_key(action))
                log.exception("action went wrong, a later pass tries again", action=name, host=host_id)


def _key(action: AgentAction) -> _Key:
    return type(action).__name__, action.tap if isinstance(action, diff.RemoveTap) else action.vm_id
