"""Password hashing in threads of its own, few at a time: each takes 50 ms of a CPU and 16 MiB.

A flood of sign-ins waits for these threads. Everything else has the other threads and the rest of the CPU.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from nqrust.contract.credentials import hash_password
from nqrust.manager.errors import Busy

T = TypeVar("T")

QUEUE = 32
"""Sign-ins that wait. Twice as many with those of users who are known from their address."""


class Hashing:
    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or min(4, max(1, (os.cpu_count() or 1) // 2))
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="hash")
        self._free = asyncio.Semaphore(self.workers)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self, known: bool) -> AsyncIterator[None]:
        """Wait for a turn to look a user up and to hash. `known`: the user signed in from there before.

        Raises Busy if too many wait already, before anything touches the database.
        """
        if self._waiting >= self.workers + (2 * QUEUE if known else QUEUE):
            raise Busy()
        self._waiting += 1
        try:
            async with self._free:
                yield
        finally:
            self._waiting -= 1

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Return the result of `work`, for the holder of a turn."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def hash(self, password: str) -> str:
        """Return the hash of a new password. Raises Busy."""
        async with self.turn(known=True):
            return await self.run(hash_password, password)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
