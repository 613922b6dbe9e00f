"""Listening sockets and the servers on them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from nqrust.agent.errors import SettingsError
from nqrust.serving.connections import Bounds
from nqrust.serving.protocol import HEADER_BYTES, bounded

CONNECTIONS = 4
"""Open connections to the guests' listener for each source. A guest agent needs one."""
LIFETIME = 20.0
"""Seconds after which a guest's connection is closed, even if it is active."""
BOUNDS = Bounds(per_source=500)
"""Of the agent's API. The manager is one source, with a connection for each open console."""


def bind(address: str, port: int) -> socket.socket:
    """Return a listening TCP socket. Raises SettingsError if the address is not available."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio sends small answers at once only if the socket names its protocol. Otherwise each may wait 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise SettingsError(
            "NQR-CFG-702",
            f"The agent cannot listen on {address}:{port}: {os.strerror(error.errno or 0)}.",
            "Free the port (`ss -ltnp`), or choose another with `nqr install --agent-bind ADDRESS:PORT`.",
        ) from error
    return listener


class GuestProtocol(H11Protocol):
    """HTTP with untrusted guests: few and short connections for each source, so that no guest can block the others."""

    _open: ClassVar[Counter[str]] = Counter()
    _source = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        peer = transport.get_extra_info("peername")
        source = str(peer[0]) if peer else "?"
        if self._open[source] >= CONNECTIONS:
            transport.abort()
            return
        self._source = source
        self._open[source] += 1
        super().connection_made(transport)
        self.loop.call_later(LIFETIME, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._source:
            return
        self._open[self._source] -= 1
        if not self._open[self._source]:
            del self._open[self._source]
        self._source = ""
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._source:
            super().data_received(data)

    def eof_received(self) -> None:
        if self._source:
            super().eof_received()


class Server(uvicorn.Server):
    """A server that leaves signals to the agent: the agent runs two servers and stops both together."""

    def __init__(self, app: FastAPI, *, guests: bool = False) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_keep_alive=30,
                limit_concurrency=512 if guests else None,
                h11_max_incomplete_event_size=HEADER_BYTES,
                timeout_graceful_shutdown=30,
                ws_max_size=1 << 20,
                http=GuestProtocol if guests else bounded(BOUNDS),
                ws="none" if guests else "auto",
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
