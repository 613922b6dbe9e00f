"""Places for consoles and sessions on a host."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock

from nqrust.agent.api.listeners import BOUNDS
from nqrust.agent.api.viewers import MOST, Viewers


def test_consoles_leave_connections_for_control() -> None:
    assert asyncio.run(_scene()) == [1, 0]
    assert BOUNDS.per_source >= MOST + 200, "the manager's client has up to 100"


async def _scene() -> list[int]:
    viewers, end, served = Viewers(), asyncio.Event(), 0

    async def serve() -> None:
        nonlocal served
        served += 1
        await end.wait()

    async def refused() -> int:
        socket: Any = AsyncMock()
        await asyncio.wait_for(viewers.show(socket, serve), 5)
        return sum(call.args[0] == 4429 for call in socket.close.await_args_list)

    open_ones = [asyncio.ensure_future(viewers.show(AsyncMock(), serve)) for _ in range(MOST)]
    await asyncio.sleep(0)
    found = [await refused()]
    end.set()
    await asyncio.gather(*open_ones)
    found.append(await refused())
    assert served == MOST + 1
    return found
