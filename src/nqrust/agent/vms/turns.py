"""Work for many VMs, of which each may keep a thread waiting: a few at once, for a limited time, and each VM in its turn."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable


class Turns:
    """`at_once`: VMs that are worked on at a time. `seconds`: no VM's work begins later than that in a round."""

    def __init__(self, at_once: int, seconds: float) -> None:
        self._at_once, self._seconds = at_once, seconds
        self._last = ""

    async def round(self, vm_ids: Iterable[str], work: Callable[[str], Awaitable[object]]) -> None:
        """Work for the VMs after the last one of the round before. `work` raises nothing."""
        ids = sorted(vm_ids)
        begin = bisect_right(ids, self._last)
        left, loop = iter(ids[begin:] + ids[:begin]), asyncio.get_running_loop()
        until = loop.time() + self._seconds

        async def next_ones() -> None:
            while loop.time() < until and (vm_id := next(left, None)) is not None:
                self._last = vm_id
                await work(vm_id)

        await asyncio.gather(*(next_ones() for _ in range(self._at_once)))
