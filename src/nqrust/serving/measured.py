"""HTTP whose requests say how long they are: a body in chunks is refused. RFC 9112, 6.3 and 7.1; RFC 9110, 15.5.12.

A chunk of one byte has six, and takes 17 µs. All that came of a connection is taken before any other gets a turn, and nobody needs
to sign in for it. With 20 connections and 2 MB a second, a client kept everybody else waiting for seconds. A guest did so with the
agent of its host.
"""

from __future__ import annotations

from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_PIECE = 1024
"""Bytes that are taken at once while it is not known what comes: h11 looks at the length of a header only while that is
incomplete."""
LINES = 128
"""Of a header. A browser sends about 20, and each takes as long as a hundred bytes of one line."""
_LONGEST = 16 * 1024


def problem(title: str, status: int, code: str, detail: str, cure: str) -> bytes:
    return f'{{"title": "{title}", "status": {status}, "detail": "{detail}", "code": "{code}", "cure": "{cure}"}}'.encode()


_NO_LENGTH = problem(
    "length required",
    411,
    "NQR-API-180",
    "The request sends its body in chunks and does not say how long it is.",
    "Send it with Content-Length.",
)


def in_chunks(scope: Any) -> bool:
    """Return whether the body of a request comes in chunks, or in another coding than its plain bytes."""
    return scope is not None and any(name == b"transfer-encoding" for name, _ in scope["headers"])


class _Measured:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not in_chunks(scope):
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(_NO_LENGTH)).encode())]
        await send({"type": "http.response.start", "status": 411, "headers": [*headers, (b"connection", b"close")]})
        await send({"type": "http.response.body", "body": _NO_LENGTH})


class _Connection(h11.Connection):
    """Looks at a request before h11 does. `data_received` does not see the requests that wait in h11 for an answer."""

    def __init__(self, longest: int) -> None:
        super().__init__(h11.SERVER, longest)
        self._longest, self._in_chunks = longest, False

    @property
    def in_chunks(self) -> bool:
        return self._in_chunks and self.their_state is h11.SEND_BODY

    def next_event(self) -> Any:
        if self.in_chunks:
            return h11.NEED_DATA
        if self.their_state is h11.IDLE:
            self._look_at_head()
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._in_chunks = any(name == b"transfer-encoding" for name, _ in event.headers)
        return event

    def _look_at_head(self) -> None:
        """Raises RemoteProtocolError for a header of too many lines or bytes, complete or not."""
        *lines, rest = bytes(self.trailing_data[0][: self._longest + 1]).split(b"\n", LINES + 1)
        if any(line in (b"", b"\r") for line in lines):
            return
        if len(lines) > LINES or sum(map(len, lines)) + len(lines) + len(rest) > self._longest:
            raise h11.RemoteProtocolError("the header is too long", error_status_hint=431)


class MeasuredProtocol(H11Protocol):
    """One connection. `takes` and `taken`: for more bounds."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.app: Any = _Measured(self.app)
        self.conn: _Connection = _Connection(self.config.h11_max_incomplete_event_size or _LONGEST)

    def takes(self) -> bool:
        """Return whether what the client sends is still looked at."""
        return not self.transport.is_closing()

    def taken(self) -> None:
        """Do what is due after a piece of what the client sent."""

    def data_received(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest and not self.conn.in_chunks and self.takes():
            size = _PIECE if self.conn.their_state is h11.IDLE else len(rest)
            super().data_received(bytes(rest[:size]))
            rest = rest[size:]
            self.taken()
