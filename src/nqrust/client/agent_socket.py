"""The manager's end of a WebSocket to a host's agent. Somebody may have taken that host over."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.protocol import Event, State

from nqrust.tls.frames import Frames

SMALL_AT_ONCE, SMALL_SECONDS = 4000, 0.001
"""Small frames in a row, and seconds until one more. An agent sends few: it reads a console as fast as they are taken."""
_CRUMB = 8
"""Bytes of an answer to the handshake that count as a frame. It can come in chunks, and an agent's is short."""


class AgentSocket(ClientConnection):
    """For `create_connection` of `websockets.connect`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._frames, self._seen = Frames(self._take, SMALL_AT_ONCE, SMALL_SECONDS), 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(self._frames.of(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        self._frames.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._frames.feed(data)

    def _take(self, data: bytes) -> int:
        before, self._seen = self.protocol.state, 0
        super().data_received(data)
        return len(data) // _CRUMB if before is State.CONNECTING else self._seen

    def process_event(self, event: Event) -> None:
        self._seen += 1
        super().process_event(event)
