"""Plain HTTP is for loopback. On other addresses the same ports answer TLS."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlunsplit

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from nqrust.loopback import is_loopback as is_loopback


def on_loopback(scope: Scope) -> bool:
    """Return whether the connection ends at a loopback address of this host."""
    return is_loopback(str((scope.get("server") or ("",))[0]))


async def send_on(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a browser on to https, at the same host, port and path."""
    host = Headers(scope=scope).get("host", "")
    query = scope.get("query_string", b"").decode("latin-1")
    await RedirectResponse(urlunsplit(("https", host, scope["path"], query, "")), 308)(scope, receive, send)


def hsts(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the header by which a browser uses TLS only from now on (RFC 6797). Empty for plain HTTP without a TLS proxy.

    Browsers ignore it where they do not trust the certificate. A proxy with TLS in front says so in a header; other clients who
    say it get an answer that their browser ignores.
    """
    forwarded = dict(scope["headers"]).get(b"x-forwarded-proto")
    return [(b"strict-transport-security", b"max-age=31536000")] if scope["scheme"] == "https" or forwarded == b"https" else []


class Plain:
    """ASGI middleware: plain HTTP is answered on loopback only. `allowed` names exceptions; `refuse` answers other requests."""

    def __init__(self, app: ASGIApp, allowed: Callable[[Scope], bool], refuse: ASGIApp) -> None:
        self._app, self._allowed, self._refuse = app, allowed, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        plain = scope["type"] in ("http", "websocket") and scope["scheme"] in ("http", "ws")
        if plain and not on_loopback(scope) and not self._allowed(scope):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})  # RFC 6455, 7.4.1: policy violation; before it opened, 403
            else:
                await self._refuse(scope, receive, send)
            return
        await self._app(scope, receive, send)
