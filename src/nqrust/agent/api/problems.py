"""Errors as problem+json (RFC 9457), on every route."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from nqrust.agent.errors import AgentError
from nqrust.contract.problem import MEDIA_TYPE
from nqrust.contract.text import first_fault
from nqrust.host.errors import HostError, NoSpace

log = structlog.get_logger("nqrust.agent")

_LONGEST_PATH = 200  # characters in a line of the log


def answer(error: AgentError) -> Response:
    request_id = uuid.uuid4().hex[:16]
    problem = error.problem(request_id)
    return Response(
        problem.model_dump_json(), status_code=error.status, media_type=MEDIA_TYPE, headers={"X-Request-Id": request_id}
    )


def of_host(error: HostError) -> AgentError:
    """Return the problem for a failure of this host that no verb expected."""
    if isinstance(error, NoSpace):
        return AgentError(
            "NQR-VMM-109", f"The disk is full ({error}).", "Make room in the data folder of this host (/srv/fc).", status=507
        )
    return AgentError("NQR-API-710", f"The host failed: {error}.", "Read the agent's log, or run `nqr doctor`.")


def install(app: FastAPI, logged: Callable[[Request], bool] = lambda request: True) -> None:
    """`logged`: whether a request that is refused or failed is worth a line of the log."""

    @app.exception_handler(AgentError)
    async def known(request: Request, error: AgentError) -> Response:
        level = log.info if error.status == 404 else log.warning
        if logged(request):
            level("request.refused", path=request.url.path[:_LONGEST_PATH], code=error.code, why=error.what)
        return answer(error)

    @app.exception_handler(HostError)
    async def machine(request: Request, error: HostError) -> Response:
        if logged(request):
            log.error("request.failed", path=request.url.path[:_LONGEST_PATH], why=str(error))
        return answer(of_host(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        where, said = first_fault(error.errors())
        return answer(AgentError("NQR-API-703", f"{where}: {said}.", "Correct the request.", status=422))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return answer(
            AgentError(
                "NQR-API-704", f"{error.detail}: {request.url.path}.", "See /agent/v1/openapi.json.", status=error.status_code
            )
        )

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        if logged(request):
            log.error("request.crashed", path=request.url.path[:_LONGEST_PATH], exc_info=error)
        return answer(AgentError("NQR-API-710", "The agent had an internal error.", "Read the agent's log and report the error."))
