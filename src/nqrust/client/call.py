"""One request to the manager as data: what to send, and how to read the answer. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import BaseModel, ValidationError

from nqrust.client.errors import NoName, NotAManager, Refused
from nqrust.contract.problem import Problem
from nqrust.contract.text import plain

if TYPE_CHECKING:
    import httpx

    from nqrust.contract.vms import ConsoleTicket

T_co = TypeVar("T_co", covariant=True)
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Call(Generic[T_co]):
    """One request. `read` parses the answer; `timeout` (seconds) overrides the client's."""

    method: str
    path: str
    read: Callable[[httpx.Response], T_co]
    body: BaseModel | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    accept: tuple[int, ...] = ()
    only_given: bool = False
    """Send only the body's fields that were set: the manager fills in defaults."""


def websocket_url(base_url: str, ticket: ConsoleTicket) -> str:
    """Return the WebSocket URL (RFC 6455) of a console ticket, as the client reaches it."""
    parts = urlsplit(base_url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    path = parts.path.rstrip("/") + ticket.path
    return urlunsplit((scheme, parts.netloc, path, f"ticket={quote(ticket.ticket, safe='')}", ""))


def answer(call: Call[T_co], response: httpx.Response) -> T_co:
    """Return the parsed answer, or raise Refused. An answer from another program raises NotAManager."""
    if response.status_code >= 400 and response.status_code not in call.accept:
        raise Refused(response.status_code, problem_of(response))
    try:
        return call.read(response)
    except (ValidationError, ValueError) as error:
        kind = response.headers.get("content-type", "").partition(";")[0]
        raise NotAManager(str(response.url), response.status_code, kind) from error


def problem_of(response: httpx.Response) -> Problem:
    """Return the problem+json of an answer, or a substitute for the answer of a proxy or another program."""
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        reason = f" ({response.reason_phrase})" if response.reason_phrase else ""
        return Problem(title=f"The manager answered with status {response.status_code}{reason}", status=response.status_code)


def request_arguments(call: Call[Any]) -> dict[str, Any]:
    """Return keyword arguments for httpx's `request`."""
    sent = dict(call.headers)
    arguments: dict[str, Any] = {
        "method": call.method,
        "url": call.path,
        "params": {k: v for k, v in call.query.items() if v is not None},
        "headers": sent,
    }
    if call.body is not None:
        arguments["content"] = call.body.model_dump_json(exclude_none=not call.only_given, exclude_unset=call.only_given)
        sent["Content-Type"] = "application/json"
    if call.timeout is not None:
        arguments["timeout"] = call.timeout
    return arguments


def model(kind: type[M]) -> Callable[[httpx.Response], M]:
    return lambda response: kind.model_validate_json(response.content)


def text(response: httpx.Response) -> str:
    return response.content.decode("utf-8", "replace")


def nothing(response: httpx.Response) -> None:
    return None


def segment(value: str) -> str:
    """Return a name as part of a path. Raises NoName.

    Clients resolve `.` and `..` in an address (RFC 3986, 5.2.4), and servers take `%2F` for a slash: the request would go to
    something else.
    """
    if not value:
        raise NoName("A name is empty.")
    if value in (".", "..") or "/" in value:
        raise NoName(f"“{plain(value)}” is not a name.")
    return quote(value, safe="")
