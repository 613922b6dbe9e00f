"""uvicorn's HTTP protocol with bounds.

uvicorn itself has no limit on the time for a header or a body, and none per source. Its `limit_concurrency` answers 503 to
everybody as soon as one client has opened enough connections.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import h11

from nqrust.serving.connections import Bounds, Connections
from nqrust.serving.measured import MeasuredProtocol, problem
from nqrust.serving.sources import STATE, connection_group, source_of, source_of_certificate
from nqrust.tls.contexts import names

HEADER_BYTES = 16 * 1024
"""For uvicorn's `h11_max_incomplete_event_size`: the longest header of a request."""
STRANGER = "stranger"
"""An application sets this in a request's `scope["state"]` while it finds out who sent it."""


def _answer(status: str, title: str, code: str, detail: str, cure: str) -> bytes:
    body = problem(title, int(status[:3]), code, detail, cure)
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n"
        "Retry-After: 2\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


_FULL = _answer(
    "503 Service Unavailable",
    "too many connections",
    "NQR-API-144",
    "Too many connections are open.",
    "Close some, then try again.",
)
_SLOW = _answer(
    "408 Request Timeout", "request too slow", "NQR-API-145", "The request did not arrive in time.", "Send it without pauses."
)


class BoundedProtocol(MeasuredProtocol):
    """One connection, in asyncio's own loop: another loop's sockets do not show whether they are closed. `_connections`:
    those of its listener; see `bounded`.

    Its requests know the names in the client's certificate: `scope["state"]["peer_names"]`. Empty without one. They know its source,
    too.
    """

    _connections: ClassVar[Connections]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state = {**self.app_state, "peer_names": names(transport.get_extra_info("peercert"))}
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._timed: object = None  # what the timer is for: None, "head", or the scope of a body
        self._unread: asyncio.TimerHandle | None = None  # until the client has read
        self._socket = transport.get_extra_info("socket")
        group = self._group()
        self.app_state = {**self.app_state, STATE: group}
        self._refused = not self._connections.admit(self, group)
        if self._refused:
            transport.write(_FULL)
            transport.close()
            return
        self._time("head", self._connections.bounds.head)

    def _group(self) -> str:
        """Return the source of the connection."""
        if with_certificate := source_of_certificate(self.app_state["peer_names"]):
            return with_certificate
        if self.client is None or self.server is None or self.server[1] is None:
            return connection_group(self.client[0] if self.client else "local")
        return source_of(self.client, (self.server[0], self.server[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)
        self._time(None)
        self._read()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._must_read()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._read()

    def takes(self) -> bool:
        return super().takes() and not self._refused and not self._is_websocket

    def taken(self) -> None:
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    # --- for Connections
    @property
    def gone(self) -> bool:
        return self._socket is None or self._socket.fileno() < 0

    @property
    def served(self) -> bool:
        return self.scope is not None

    @property
    def waiting(self) -> bool:
        if self.transport.is_closing():
            return True
        if self._is_websocket:
            return False
        return self.flow.write_paused or self.conn.their_state in (h11.IDLE, h11.SEND_BODY) or self._is_strangers()

    def evict(self) -> None:
        self._time(None)
        self.transport.abort()

    @property
    def _is_websocket(self) -> bool:
        """Return whether another protocol has the connection now. h11 waits for a body forever then."""
        return self.transport.get_protocol() is not self

    def _is_strangers(self) -> bool:
        """Return whether the application does not know yet who sent the request. Strangers take turns there, and would keep all
        connections of their source at work meanwhile."""
        return self.scope is not None and bool(self.scope.get("state", {}).get(STRANGER))

    # --- slow clients
    def _watch(self) -> None:
        """Start the clock for a header or a body that has begun, and stop it for one that is complete."""
        state = self.conn.their_state
        if self.transport.is_closing():
            self._time(None)
            self._must_read()  # what is left in the buffer
        elif self._is_websocket:
            self._time(None)
        elif state is h11.SEND_BODY:
            self._time(self.scope, self._connections.bounds.body)
        elif state is h11.IDLE and (self.conn.trailing_data[0] or self.scope is None):
            self._time("head", self._connections.bounds.head)
        else:
            self._time(None)

    def _time(self, what: object, seconds: float = 0.0) -> None:
        if what is self._timed:
            return  # more data gives a client no more time
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = what
        if what is not None:
            self._timer = self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            if self._timed == "head":
                self.transport.write(_SLOW)
            self.transport.close()
        else:
            self.transport.abort()

    # --- clients that do not read
    def _must_read(self) -> None:
        """Start the clock for a client that has to read what the transport keeps for it."""
        if self._unread is None and not self.gone:
            self._unread = self.loop.call_later(self._connections.bounds.write, self.transport.abort)

    def _read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def bounded(bounds: Bounds) -> type[BoundedProtocol]:
    """Return the protocol class of one listener, with its own count of connections. For uvicorn's `http`."""

    class Listener(BoundedProtocol):
        _connections = Connections(bounds)

    return Listener
