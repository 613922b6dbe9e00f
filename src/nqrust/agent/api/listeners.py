"""Listening sockets and the servers on them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import uvicorn
from fastapi import FastAPI

from nqrust.agent.errors import SettingsError
from nqrust.agent.vms.guests import RateLimit
from nqrust.contract.names import RELAY_MARK
from nqrust.serving.connections import Bounds
from nqrust.serving.measured import MeasuredProtocol
from nqrust.serving.protocol import HEADER_BYTES, bounded
from nqrust.serving.server import Context, listen
from nqrust.serving.server import Server as PlainAndTls
from nqrust.serving.websocket import MESSAGE_BYTES, BoundedWebSocket

CONNECTIONS = 4
"""Open connections to the guests' listener for each source. A guest agent needs one."""
LIFETIME = 20.0
"""Seconds after which a guest's connection is closed, even if it is active."""
ALL_CONNECTIONS = 256
"""Of all guests together. The oldest one is closed for one more: a report takes no second, and in bridged mode a guest has any
number of addresses."""
CONNECTIONS_A_SECOND, CONNECTIONS_AT_ONCE = 5.0, 40.0
"""New connections of each source. The relay closes one after the first request that it refuses."""
BOUNDS = Bounds(per_source=500)
"""Of the agent's API. The manager is one source, with a connection for each open console (viewers.py) and some for control."""

_SILENT = logging.getLogger("nqrust.agent.guests")
_SILENT.setLevel(logging.CRITICAL + 1)
"""uvicorn writes a line for each request that is none. A guest could fill the disk of the log with them."""


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
        raise _not_available(address, port, error) from error
    return listener


def bind_relay(address: str, port: int) -> socket.socket:
    """Return the guests' listening socket, whose answers network/relay_port.py knows by their mark. Raises SettingsError."""
    listener = bind(address, port)
    _mark(listener, int(RELAY_MARK, 16))
    return listener


def _mark(one: socket.socket, mark: int) -> None:
    with contextlib.suppress(OSError):  # without the right to; the kernel needs no mark unless many guests begin at once
        one.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)


def bind_all(address: str, port: int) -> list[socket.socket]:
    """Return listening sockets on this address, and on loopback for root's programs. Raises SettingsError."""
    try:
        return listen(address, port, backlog=128)
    except OSError as error:
        raise _not_available(address, port, error) from error


def _not_available(address: str, port: int, error: OSError) -> SettingsError:
    return SettingsError(
        "NQR-CFG-702",
        f"The agent cannot listen on {address}:{port}: {os.strerror(error.errno or 0)}.",
        "Free the port (`ss -ltnp`), or choose another with `nqr install --agent-bind ADDRESS:PORT`.",
    )


class GuestProtocol(MeasuredProtocol):
    """HTTP with untrusted guests: few and short connections for each source, so that no guest can block the others."""

    _open: ClassVar[Counter[str]] = Counter()
    _all: ClassVar[dict[GuestProtocol, None]] = {}
    _new: ClassVar[RateLimit] = RateLimit(CONNECTIONS_A_SECOND, CONNECTIONS_AT_ONCE)
    _source = ""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.logger = _SILENT

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        peer = transport.get_extra_info("peername")
        source = str(peer[0]) if peer else "?"
        if self._open[source] >= CONNECTIONS or not self._new.allows(source):
            transport.abort()
            return
        if len(self._all) >= ALL_CONNECTIONS:
            oldest = next(iter(self._all))
            del self._all[oldest]
            oldest.transport.abort()
        _mark(transport.get_extra_info("socket"), 0)  # what others on this host do with marks is for no other packet
        self._source = source
        self._open[source] += 1
        self._all[self] = None
        super().connection_made(transport)
        self.loop.call_later(LIFETIME, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._source:
            return
        self._open[self._source] -= 1
        if not self._open[self._source]:
            del self._open[self._source]
        self._all.pop(self, None)
        self._source = ""
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._source:
            super().data_received(data)

    def eof_received(self) -> None:
        if self._source:
            super().eof_received()


def _config(app: FastAPI, **more: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_graceful_shutdown=30,
        ws_max_size=MESSAGE_BYTES,
        ws_per_message_deflate=False,
        **more,
    )


class Server(PlainAndTls):
    """The server of the manager's and root's requests, on `listeners`. `context`: for TLS on the same port.

    It leaves signals to the agent, which runs two servers and stops both together.
    """

    def __init__(self, app: FastAPI, listeners: Sequence[socket.socket], context: Context = lambda: None) -> None:
        super().__init__(_config(app, http=bounded(BOUNDS), ws=BoundedWebSocket), listeners, context)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class GuestServer(uvicorn.Server):
    """The server of the guests' requests. It leaves signals to the agent, too."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(_config(app, http=GuestProtocol, ws="none", limit_concurrency=512))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
