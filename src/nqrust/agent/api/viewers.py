"""How many consoles and sessions in guests are open at once: fewer than the connections of the manager.

A connection of one of them has no end. The listener closes idle connections for them, and then refuses new ones: nobody could
start, stop or delete a VM of this host.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import WebSocket

from nqrust.contract.guest import CloseCode

MOST = 300
"""Of all VMs. The manager opens fewer."""


class Viewers:
    def __init__(self) -> None:
        self._open = 0

    async def show(self, socket: WebSocket, serve: Callable[[], Awaitable[None]]) -> None:
        """Serve a console or session, or close it at once."""
        if self._open >= MOST:
            await socket.accept()
            await socket.close(CloseCode.too_many, f"this host has {MOST} open consoles and sessions")
            return
        self._open += 1
        try:
            await serve()
        finally:
            self._open -= 1
