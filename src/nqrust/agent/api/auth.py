"""Authentication of the agent's API. Every route except GET /agent/v1/health needs a bearer token, even unknown ones.

The manager's command token works from anywhere, the local token from loopback only. From another machine, a host with a
certificate also asks for the manager's certificate, and answers nothing else. ASGI middleware covers every route.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from nqrust.agent.api.problems import answer
from nqrust.agent.errors import AgentError
from nqrust.contract.credentials import hash_token
from nqrust.loopback import is_loopback
from nqrust.serving import bodies, plain
from nqrust.tls.contexts import MANAGER_NAME

LARGEST = 1 << 20  # bytes of a body
OPEN = frozenset({("GET", "/agent/v1/health"), ("HEAD", "/agent/v1/health")})


def bearer(connection: HTTPConnection) -> str:
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class Authentication:
    """`command_hashes()` returns the hashes of the manager's tokens; none before the host is registered. `has_certificate()`:
    whether connections from other machines use TLS."""

    def __init__(
        self,
        app: ASGIApp,
        command_hashes: Callable[[], tuple[str, ...]],
        local_hash: str,
        has_certificate: Callable[[], bool] = lambda: False,
    ) -> None:
        self._app, self._command_hashes, self._local_hash = app, command_hashes, local_hash
        self._has_certificate = has_certificate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        if self._has_certificate() and scope["scheme"] in ("http", "ws") and not plain.on_loopback(scope):
            refusal = answer(
                AgentError(
                    "NQR-API-712",
                    "This agent answers other machines over TLS only.",
                    "Use https. Only the manager of this host can connect.",
                    status=426,
                )
            )
            refusal.headers["Upgrade"] = "TLS/1.2, HTTP/1.1"  # RFC 2817, 4.2
            await refusal(scope, receive, send)
            return
        if (scope.get("method", ""), scope["path"]) in OPEN or self._known(connection):
            await self._admit(scope, receive, send)
            return
        refusal = answer(
            AgentError(
                "NQR-API-701",
                "This request has no valid token.",
                "Send the host's command token as bearer. On this host, the token in the agent's state folder works too.",
                status=401,
            )
        )
        refusal.headers["WWW-Authenticate"] = "Bearer"
        await refusal(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its whole body."""
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        try:
            body = await bodies.read(receive, LARGEST)
        except bodies.ClientGone:
            return
        except bodies.BodyTooLarge:
            error = AgentError("NQR-API-706", f"A request has at most {LARGEST} bytes.", "Send less.", status=413)
            await answer(error)(scope, receive, send)
        except bodies.BodyTooSlow:
            error = AgentError("NQR-API-706", "The request arrived too slowly.", "Send it without pauses.", status=408)
            await answer(error)(scope, receive, send)
        else:
            await self._app(scope, bodies.replay(body, receive), send)

    def _known(self, connection: HTTPConnection) -> bool:
        token = bearer(connection)
        if not token:
            return False
        given = hash_token(token)
        if any(hmac.compare_digest(given, command) for command in self._command_hashes() if command):
            return _from_manager(connection.scope)
        return hmac.compare_digest(given, self._local_hash) and _loopback(connection)


def _loopback(connection: HTTPConnection) -> bool:
    return connection.client is not None and is_loopback(connection.client.host)


def _from_manager(scope: Scope) -> bool:
    """Return whether the sender has the manager's certificate. Without TLS nobody has one."""
    return scope["scheme"] in ("http", "ws") or MANAGER_NAME in scope.get("state", {}).get("peer_names", ())
