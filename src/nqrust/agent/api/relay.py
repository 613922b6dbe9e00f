"""The listener for guests: one route, small bodies, a limit for each source, the VM's own token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nqrust.agent.api import problems
from nqrust.agent.api.auth import bearer
from nqrust.agent.errors import AgentError
from nqrust.agent.store import check_id
from nqrust.agent.vms.guests import GuestBook, RateLimit
from nqrust.contract.text import fault
from nqrust.contract.vms import GuestReport

LARGEST = 8192  # bytes of a report
PATIENCE = 5.0  # seconds for the body of a report

Run = Callable[[Callable[[], Any]], Awaitable[Any]]


class LastIfRefused:
    """Middleware. A refused request is the last one of its connection: a guest that sends one after the other, without a pause,
    would keep a CPU of the host busy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, watched)


def build(guests: GuestBook, run: Run, forward: Callable[[str, GuestReport], None], limit: RateLimit | None = None) -> FastAPI:
    app = FastAPI(title="NQRust-MicroVM guest relay", docs_url=None, redoc_url=None, openapi_url=None)
    refused = RateLimit(rate=1 / 60, burst=10)  # lines of the log: a guest must not fill the disk with them
    problems.install(app, lambda request: refused.allows(_source(request)))
    app.add_middleware(LastIfRefused)
    limit = limit or RateLimit()

    @app.post("/v1/vms/{vm_id}/guest-ip", status_code=204)
    async def guest_ip(vm_id: str, request: Request) -> Response:
        if not limit.allows(_source(request)):
            raise AgentError("NQR-API-707", "Too many reports.", "Report less often.", status=429)
        token = bearer(request)
        if not token or not await run(lambda: guests.admits(check_id(vm_id), token)):
            raise AgentError(
                "NQR-API-701", "The token does not belong to this VM.", "Use the token in /etc/guest-agent.conf.", status=401
            )
        try:
            body = await asyncio.wait_for(_body(request), PATIENCE)
        except asyncio.TimeoutError:
            raise AgentError(
                "NQR-API-706", "The report arrived too slowly.", "Send the whole report without pauses.", status=408
            ) from None
        try:
            report = GuestReport.model_validate_json(body)
        except ValidationError as error:
            raise AgentError(
                "NQR-API-703", f"The report is not valid: {fault(error.errors()[0]['msg'])}.", "Correct it.", status=422
            ) from error
        await run(lambda: guests.record(vm_id, report, datetime.now(timezone.utc)))
        forward(vm_id, report)
        return Response(status_code=204)

    return app


def _source(request: Request) -> str:
    return request.client.host if request.client else ""


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST:
            raise AgentError("NQR-API-706", f"A report has at most {LARGEST} bytes.", "Send less.", status=413)
    return body
