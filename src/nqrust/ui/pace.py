"""Bounds how many pages one source gets. Making a page takes many times as long as everything else here, and needs no sign-in: one
client with many connections would keep everybody else waiting."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from nqrust.serving.sources import group

AT_ONCE, SECONDS = 60, 0.25
"""Pages of a source at once, and seconds until one more."""
_ASSETS = "/_nicegui"
_REMEMBERED = 10_000
_refused = PlainTextResponse("Too many pages at once. Try again in a few seconds.\n", 429, {"Retry-After": "5"})


class Paced:
    """Middleware. `clock`: seconds, monotonic."""

    def __init__(self, inner: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner, self._clock = inner, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = scope["type"] == "http" and not scope["path"].startswith(_ASSETS)
        await (_refused if page and not self._allows(_source(scope)) else self._inner)(scope, receive, send)

    def _allows(self, source: str) -> bool:
        now = self._clock()
        left, at = self._left.pop(source, (float(AT_ONCE), now))
        left = min(float(AT_ONCE), left + (now - at) / SECONDS)
        self._left[source] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        return left >= 1


def _source(scope: Scope) -> str:
    sender = scope.get("client")
    return group(sender[0]) if sender else ""
