"""Bounds how many pages and files one source gets, and how fast its pages send messages.

Making a page takes many times as long as everything else here, and needs no sign-in: one client with many connections would keep
everybody else waiting. So does an address that leads nowhere, because NiceGUI makes a page of it, and packing a file of NiceGUI.
NiceGUI starts a task for each message, and keeps what it answers for almost a minute.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable

from nicegui import __version__ as version
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nqrust.serving.sources import of_client
from nqrust.serving.turns import Turns

AT_ONCE, SECONDS = 60, 0.25
"""Pages of a source at once, and seconds until one more."""
MESSAGES_AT_ONCE, MESSAGE_SECONDS = 500, 0.01
"""Messages of the WebSockets of a source at once, and seconds until one more. The server reads the others later."""
FILES_AT_ONCE, FILES_A_SECOND = 24 << 20, 2 << 20
"""Bytes of NiceGUI's files, packed, for a source at once, and each second. A browser takes 1 MiB and keeps it."""
_SMALLEST = 4096
"""Bytes that each file counts for, at least."""
_PARTS = r"(?:static|libraries|components|dynamic_resources)/.+|(?:resources|esm)/[^/]+/.+"
_FILE = re.compile(rf"/_nicegui/{re.escape(version)}/(?:{_PARTS})", re.DOTALL)
"""Addresses of NiceGUI's routes. It makes a page of any other that begins so."""
_REMEMBERED = 10_000
_refused = PlainTextResponse("Too many pages at once. Try again in a few seconds.\n", 429, {"Retry-After": "5"})


class Paced:
    """Middleware. `clock`: seconds, monotonic."""

    def __init__(self, inner: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner, self._clock = inner, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = scope["type"] == "http" and not is_file(scope)
        await (_refused if page and not self._allows(of_client(scope)) else self._inner)(scope, receive, send)

    def _allows(self, source: str) -> bool:
        now = self._clock()
        left, at = self._left.pop(source, (float(AT_ONCE), now))
        left = min(float(AT_ONCE), left + (now - at) / SECONDS)
        self._left[source] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        return left >= 1


class PacedMessages:
    """Middleware. `clock`: seconds, monotonic."""

    def __init__(self, inner: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner, self._turns = inner, Turns(MESSAGES_AT_ONCE, MESSAGE_SECONDS, clock=clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def paced() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive" and (wait := self._turns.wait(of_client(scope))):
                await asyncio.sleep(wait)
            return message

        await self._inner(scope, paced if scope["type"] == "websocket" else receive, send)


class PacedFiles:
    """Middleware. Files beyond the share of a source wait before they are made. `clock`: seconds, monotonic."""

    def __init__(self, inner: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner, self._turns = inner, Turns(FILES_AT_ONCE, 1 / FILES_A_SECOND, clock=clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_file(scope):
            await self._inner(scope, receive, send)
            return
        source = of_client(scope)

        async def paced(message: Message) -> None:
            await send(message)
            if size := len(message.get("body", b"")):
                await self._wait(source, size)

        await self._wait(source, _SMALLEST)
        await self._inner(scope, receive, paced)

    async def _wait(self, source: str, size: int) -> None:
        """Count bytes, and wait while the source has taken too many."""
        if wait := self._turns.wait(source, size):
            await asyncio.sleep(wait)


def is_file(scope: Scope) -> bool:
    return _FILE.fullmatch(scope["path"]) is not None
