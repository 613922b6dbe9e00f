"""uvicorn's WebSocket protocol with bounds on what a client makes the server keep in memory.

uvicorn answers each ping at once, whether or not the client reads the answers, and keeps what arrives before the application
accepts. Frames of messages have its own bounds: one message at a time.
"""

from __future__ import annotations

from asyncio.transports import BaseTransport

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MESSAGE_BYTES = 256 * 1024
"""For uvicorn's `ws_max_size`: the longest message. Messages are not compressed either: a few bytes could become that many."""


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """One WebSocket. For uvicorn's `ws`."""

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()  # until the application accepts

    def handle_ping(self) -> None:
        """Answer a ping. A client that pings and does not read the answers is disconnected."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.transport.abort()

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept" and not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()
