"""uvicorn's WebSocket protocol with bounds on what a client makes the server keep in memory.

uvicorn answers each ping at once, whether or not the client reads the answers, and keeps what arrives before the application
accepts. Frames of messages have its own bounds: one message at a time.
"""

from __future__ import annotations

from asyncio.transports import BaseTransport
from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from nqrust.tls.frames import Frames

MESSAGE_BYTES = 256 * 1024
"""For uvicorn's `ws_max_size`: the longest message. Messages are not compressed either: a few bytes could become that many."""

FRAGMENTS = 1024
"""Of one message. Empty ones count for no length."""
SMALL_AT_ONCE, SMALL_SECONDS = 400, 0.005
"""Small frames of a connection in a row, and seconds until one more. A person types less than 50 a second."""


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """One WebSocket. For uvicorn's `ws`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._frames, self._seen = Frames(self._take, SMALL_AT_ONCE, SMALL_SECONDS), 0

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(self._frames.of(transport))
        self.transport.pause_reading()  # until the application accepts

    def connection_lost(self, exc: Exception | None) -> None:
        self._frames.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.handshake_initiated:
            self._frames.feed(data)
        else:
            super().data_received(data)

    def _take(self, data: bytes) -> int:
        self._seen = 0
        super().data_received(data)
        return self._seen

    def handle_events(self) -> None:
        self._seen = len(self.conn.events)
        super().handle_events()

    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        if len(self.frames) > FRAGMENTS:
            self.transport.abort()

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
