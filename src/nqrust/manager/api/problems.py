"""Every error that an HTTP client can get, as problem+json (RFC 9457)."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from starlette.exceptions import HTTPException

from nqrust.contract.problem import MEDIA_TYPE, Problem
from nqrust.contract.text import fault
from nqrust.manager.core.agents import AgentAway, AgentSaidNo
from nqrust.manager.errors import AgentTrouble, Conflict, Invalid, ManagerError
from nqrust.manager.store.database import trouble

log = structlog.get_logger("nqrust.manager.api")

_CODES = {400: "NQR-API-113", 401: "NQR-API-101", 403: "NQR-API-102", 404: "NQR-API-103", 405: "NQR-API-109"}
_CURES = {404: "See /docs for all routes.", 405: "See /docs for the methods of this route."}

RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": title,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, title in (
        (400, "Malformed request"),
        (401, "Not authenticated"),
        (403, "Not permitted"),
        (404, "Not found"),
        (409, "Conflict"),
        (413, "Request too large"),
        (422, "Invalid request"),
        (429, "Too many attempts"),
        (502, "The host's agent did not carry out the request"),
        (503, "Database away"),
    )
}
"""For OpenAPI: the possible error answers of every route."""


def response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return Response(
        problem.model_dump_json(exclude_defaults=False),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def of_error(error: Exception, request_id: str) -> Response:
    """Return the answer to any exception. An unexpected one becomes a 500 that shows only the request id."""
    known = _translated(error)
    if known is None:
        log.exception("request went wrong", exc_info=error)
        known = ManagerError("The manager had an internal error.")
    return response(known.problem(request_id), known.headers)


def code_of(error: Exception) -> str:
    """Return the code of the answer to an exception, for the audit log."""
    known = _translated(error)
    return known.code if known else ManagerError.code


def _translated(error: Exception) -> ManagerError | None:
    if isinstance(error, ManagerError):
        return error
    if isinstance(error, AgentAway):
        return AgentTrouble(str(error))
    if isinstance(error, AgentSaidNo):
        return AgentTrouble(str(error), cure=error.problem.cure or None, code=error.problem.code or None)
    if isinstance(error, DBAPIError):
        if answer := trouble(error):
            return answer
        if isinstance(error, DataError):
            return Invalid("The database cannot store a value of this request.")
        if isinstance(error, IntegrityError):
            return Conflict("Another request changed the same data.", cure="Try again.")
    if isinstance(error, OverflowError):
        return Invalid("A number is out of range.")
    if isinstance(error, UnicodeEncodeError):
        return Invalid("A text contains half a surrogate pair, which is not valid Unicode.")
    return None


def _request_id(request: Request) -> str:
    return str(getattr(request.state, "request_id", ""))


async def _on_manager_error(request: Request, error: Exception) -> Response:
    request.state.code = code_of(error)
    return of_error(error, _request_id(request))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    request.state.code = _CODES.get(status, "NQR-API-113")
    problem = Problem(
        title=str(error.detail),
        status=status,
        detail=f"{request.method} {request.url.path}: {error.detail}.",
        code=_CODES.get(status, "NQR-API-113"),
        cure=_CURES.get(status, "Correct the request; /docs describes it."),
        request_id=_request_id(request),
    )
    return response(problem, dict(error.headers) if error.headers else None)


async def _on_invalid(request: Request, error: Exception) -> Response:
    """Name the invalid fields. Never repeat the input, which may be a password."""
    assert isinstance(error, RequestValidationError)
    request.state.code = Invalid.code
    fields = [{"field": ".".join(str(p) for p in e["loc"][1:]), "message": fault(e["msg"])} for e in error.errors()]
    told = "; ".join(f"{f['field'] or 'body'}: {f['message']}" for f in fields[:3])
    problem = Invalid(told or "The request is not valid.").problem(_request_id(request))
    return response(Problem(**problem.model_dump(), errors=fields))


def install(app: FastAPI) -> None:
    """Register the handlers."""
    for kind in (ManagerError, AgentAway, AgentSaidNo, DBAPIError):
        app.add_exception_handler(kind, _on_manager_error)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
