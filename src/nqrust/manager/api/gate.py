"""The gate in front of every route: request id, size limit, authentication, audit, access log, metrics.

It authenticates before routing, so that forgotten routes are closed and an unknown path answers 401 before 404. It is plain
ASGI because it must see WebSockets too.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nqrust.contract.auth import Role
from nqrust.manager import audit, metrics
from nqrust.manager.access.authentication import authenticate, authenticate_again, still_may, still_reads
from nqrust.manager.api import channel, problems
from nqrust.manager.core.core import Core
from nqrust.manager.core.credentials import read
from nqrust.manager.core.principal import Principal
from nqrust.manager.core.source import source_of
from nqrust.manager.core.throttle import Buckets
from nqrust.manager.errors import DatabaseAway, ManagerError, NotAuthenticated, NotPermitted, TooLarge, TooSlow
from nqrust.serving import bodies, plain, sources
from nqrust.serving.bodies import BodyTooLarge, BodyTooSlow, ClientGone
from nqrust.serving.protocol import STRANGER
from nqrust.tls import pinning

log = structlog.get_logger("nqrust.manager.access")

SIGN_IN = ("POST", "/v1/auth/login")
OPEN = {("GET", "/health"), ("HEAD", "/health"), SIGN_IN, ("GET", pinning.PATH)}
BODY_LIMIT, STRANGERS_BODY_LIMIT = 1024 * 1024, 16 * 1024
LINES, LINE_SECONDS, LONGEST_PATH = 1000, 1.0, 300
"""Log lines of all strangers: so many at once, and one more after so many seconds. Characters of a path in a line."""
CHECK_SECONDS = 30.0
"""How often the sender of a request is checked while the manager answers it."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MUTATING = {"POST", "PUT", "PATCH", "DELETE"}
_TELEMETRY = re.compile(r"/v1/hosts/[^/]+/(heartbeat|vms/[^/]+/guest)")
"""Periodic requests of agents. No user sends them, and they would flood the audit log."""


class Gate:
    def __init__(self, app: ASGIApp, core: Core) -> None:
        self._app, self._core = app, core
        self._bounds = audit.Bounds()
        self._lines = Buckets(LINES, LINE_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        request_id = headers.get("x-request-id", "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = uuid4().hex
        peer = scope["client"][0] if scope.get("client") else "local"
        origin = source_of(peer, headers, self._core.ui_key_sha256, sources.local(scope))
        state = scope.setdefault("state", {})
        state["subject"] = audit.begin()
        state.update(request_id=request_id, origin=origin, source=origin.address, principal=None, core=self._core)
        state["refusals"] = self._bounds
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send, headers)
        else:
            await self._http(scope, receive, send, headers)

    async def _http(self, scope: Scope, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        state, began, sent = scope["state"], time.perf_counter(), _Sent()
        method, path = scope["method"], scope["path"]

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent.status = message["status"]
                message["headers"] = [*message.get("headers", []), *_added_headers(state["request_id"]), *plain.hsts(scope)]
                # Written before the answer leaves: a client that sees the result finds it in the audit log.
                await self._audit(scope, method, path, sent.status)
            elif message.get("more_body"):
                await self._end_if_revoked(state["principal"], sent)
            await send(message)

        try:
            try:
                async with self._turn(scope, headers):
                    limit = BODY_LIMIT if state["principal"] else STRANGERS_BODY_LIMIT
                    if int(headers.get("content-length") or 0) > limit:
                        raise BodyTooLarge
                    body = await bodies.read(receive, limit)
                    await self._identify_again(scope, headers)
                    await self._app(scope, bodies.replay(body, receive), watched)
            except ClientGone:
                return
            except Exception as error:
                if sent.status:
                    raise
                error = _of_body(error)
                state["code"] = problems.code_of(error)
                await problems.of_error(error, state["request_id"])(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "none")
            metrics.REQUESTS.labels(method if method in _KNOWN else "other", route, str(sent.status)).inc()
            metrics.SECONDS.labels(route).observe(seconds)
            quiet = (route in ("/health", "/metrics") or _TELEMETRY.fullmatch(path)) and sent.status < 400
            if quiet or self._may_log(state["principal"], sent.status, (method, path)):
                (log.debug if quiet else log.info)(
                    "request",
                    method=method[:20],
                    path=path[:LONGEST_PATH],
                    status=sent.status,
                    ms=round(seconds * 1000, 1),
                    actor=_actor(state)[:100],
                    source=state["source"],
                )

    @asynccontextmanager
    async def _turn(self, scope: Scope, headers: dict[str, str]) -> AsyncIterator[None]:
        """Wait until it is the sender's turn, and identify it unless the route is for everybody."""
        callers, state = self._core.callers, scope["state"]
        if (scope["method"], scope["path"]) in OPEN:
            with _stranger(state):
                await callers.stranger(sender_of(scope))
            yield
            return
        with _stranger(state):
            principal = await self._sender(scope, headers)
        state["principal"] = principal
        channel.check(self._core, scope, principal)
        if scope["method"] in _MUTATING:
            _refuse_forged(headers)
        async with callers.working(principal):
            yield

    async def _identify_again(self, scope: Scope, headers: dict[str, str]) -> None:
        """Identify the sender as it is after the waits for its turn and for the body: it may have lost its rights meanwhile."""
        state = scope["state"]
        if state["principal"] is None:
            return
        principal = await authenticate_again(self._core, headers.get("authorization"), state["principal"])
        channel.check(self._core, scope, principal)
        state["principal"] = principal

    async def _end_if_revoked(self, principal: Principal | None, sent: _Sent) -> None:
        """End a long answer, such as the download of an image, to a sender who lost its rights meanwhile. Raises ClientGone."""
        if principal is None or time.monotonic() - sent.checked < CHECK_SECONDS:
            return
        sent.checked = time.monotonic()
        with suppress(DatabaseAway):
            if not await still_reads(self._core, principal):
                log.info("answer ended, because the sender's rights ended", actor=principal.name[:100])
                raise ClientGone

    async def _sender(self, scope: Scope, headers: dict[str, str]) -> Principal:
        authorization = headers.get("authorization")
        async with self._core.callers.asking(authorization, sender_of(scope)):
            principal = await authenticate(self._core, authorization, scope["state"]["origin"])
            self._core.callers.learn(read(authorization).key, principal)
            return principal

    def _may_log(self, principal: Principal | None, status: int, asked: tuple[str, str]) -> bool:
        """Return whether to log a request. Strangers must not push the host's earlier log out of the journal."""
        if principal is not None or (status < 400 and asked == SIGN_IN):
            return True
        allowed = self._lines.wait("") <= 0
        self._lines.take("")
        return allowed

    async def _websocket(self, scope: Scope, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        ticket = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("ticket", [""])[0]
        state = scope["state"]
        try:
            if ticket:
                found = self._core.tickets.redeem(ticket)
                if found is None or not await still_may(self._core, found.who, Role.operator):
                    raise NotAuthenticated("This ticket is not valid or already used.", cure="Open the console or session again.")
                state["ticket"], state["principal"] = found, replace(found.who, auth="ticket")
            else:
                state["principal"] = await self._sender(scope, headers)
                channel.check(self._core, scope, state["principal"])
                _refuse_forged(headers)
        except ManagerError as error:
            state["code"] = error.code
            await self._write(scope, "GET", scope["path"], error.status)
            await _refuse_websocket(scope, receive, send, error)
            return
        await self._app(scope, receive, send)

    async def _audit(self, scope: Scope, method: str, path: str, status: int) -> None:
        if method in _MUTATING and not _TELEMETRY.fullmatch(path) and not scope["state"].get("changes_nothing"):
            await self._write(scope, method, path, status)

    async def _write(self, scope: Scope, method: str, path: str, status: int) -> None:
        """Write the audit entry of a request, or of a console that was refused here."""
        state = scope["state"]
        if not self._worth_keeping(state["principal"], method, path, status):
            return
        route = scope.get("route")
        await audit.write(
            self._core,
            state,
            actor=_actor(state),
            method=method,
            path=path,
            status=status,
            action=str(getattr(route, "name", "")) or (_opened(path) if scope["type"] == "websocket" else ""),
            target=state["subject"].of(scope.get("path_params", {})),
            code=str(state.get("code", "")),
        )

    def _worth_keeping(self, principal: Principal | None, method: str, path: str, status: int) -> bool:
        """Return whether to audit a request. The log has every request of a known sender, and every change of a user.

        Nobody may fill the disk, neither with rejected requests nor with wrong passwords at a rate beyond reading. A host in a
        stranger's hands may not do so by registering again and again.
        """
        if status < 400:
            return principal is None or principal.kind != "agent" or self._bounds.allow(f"{audit.SENDER}{principal.name} done")
        if principal is not None:
            return self._bounds.allow(audit.SENDER + principal.name)
        if status in (408, 413, 422, 429, 503):
            return False
        return self._bounds.allow(audit.SIGN_IN if (method, path) in OPEN else audit.STRANGER)


_KNOWN = {"GET", "HEAD", "OPTIONS", *_MUTATING}


def sender_of(scope: Scope) -> str:
    """Return what counts as one stranger: a source of connections. Each user of this machine is one, and so is each browser of the
    web UI. Each agent with a certificate is one, whatever the guests of its host do."""
    state = scope["state"]
    return sources.source_of_certificate(state.get("peer_names", ())) or str(state["origin"].group)


@contextmanager
def _stranger(state: dict[str, Any]) -> Iterator[None]:
    """Let the server close the connection for another one, until it is known who sent the request."""
    state[STRANGER] = True
    try:
        yield
    finally:
        state[STRANGER] = False


def _opened(path: str) -> str:
    return "open_session" if path.endswith("/exec") else "open_console"


class _Sent:
    def __init__(self) -> None:
        self.status = 0
        self.checked = time.monotonic()


def _actor(state: dict[str, Any]) -> str:
    principal = state.get("principal")
    return principal.name if principal else str(state.get("claimed") or "anonymous")


def _headers(scope: Scope) -> dict[str, str]:
    return {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}


def _refuse_forged(headers: dict[str, str]) -> None:
    """Refuse requests with a password from a page of another origin.

    A browser sends a known password for every page that makes a request; only programs send tokens. A page cannot forge the
    browser's headers. Browsers send Sec-Fetch-Site only over trustworthy connections, Origin always.
    """
    if headers.get("authorization", "")[:6].lower() != "basic ":
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        foreign = origin is not None and urlsplit(origin).netloc != headers.get("host")
    if foreign:
        raise NotPermitted(
            "A page of another site sent this request with the password in your browser.",
            cure="Use /docs or the web UI. In programs, use a token.",
        )


def _added_headers(request_id: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-request-id", request_id.encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
    ]


def _of_body(error: Exception) -> Exception:
    if isinstance(error, BodyTooLarge):
        return TooLarge("The request's body is too large.")
    return TooSlow() if isinstance(error, BodyTooSlow) else error


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send, error: ManagerError) -> None:
    """Send an HTTP answer instead of the upgrade if the server supports it (ASGI extension), otherwise close code 1008."""
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": error.detail})
        return
    body = error.problem(scope["state"]["request_id"]).model_dump_json().encode()
    headers = [(b"content-type", b"application/problem+json")]
    headers += [(key.encode(), value.encode()) for key, value in error.headers.items()]
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
