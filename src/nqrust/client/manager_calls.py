"""Each route of the manager as data: what to send and how to read the answer.

Shared by both clients; does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
from pydantic import BaseModel, ValidationError

from nqrust.client.errors import Refused, Unreachable
from nqrust.contract import agent, auth, events, hosts, images, templates, vms, volumes
from nqrust.contract.problem import Problem

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request. `read` turns the answer into T; `timeout` (seconds) overrides the client's."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    body: BaseModel | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    accept: tuple[int, ...] = ()
    only_given: bool = False
    """Send the body's fields that were set, and no defaults: what is left out is for the other side to fill."""


def headers(token: str | None) -> dict[str, str]:
    """Headers that every request carries."""
    result = {"Accept": "application/json", "User-Agent": "nqrust-client"}
    if token:
        result["Authorization"] = f"Bearer {token}"
    return result


def websocket_url(base_url: str, ticket: vms.ConsoleTicket) -> str:
    """Where a console ticket opens its WebSocket (RFC 6455), seen from this side."""
    parts = urlsplit(base_url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    path = parts.path.rstrip("/") + ticket.path
    return urlunsplit((scheme, parts.netloc, path, f"ticket={quote(ticket.ticket, safe='')}", ""))


def answer(call: Call[T], response: httpx.Response) -> T:
    """The typed answer, or Refused; an answer that is not the manager's raises Unreachable."""
    if response.status_code >= 400 and response.status_code not in call.accept:
        raise Refused(response.status_code, problem_of(response))
    try:
        return call.read(response)
    except (ValidationError, ValueError) as error:
        raise Unreachable(str(response.url), f"unreadable answer: {str(error).splitlines()[0]}") from error


def problem_of(response: httpx.Response) -> Problem:
    """The problem+json of an answer; a made-up one when a proxy or something else answered."""
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        title = response.reason_phrase or "error"
        return Problem(title=title, status=response.status_code, detail=response.text[:200])


def request_arguments(call: Call[Any]) -> dict[str, Any]:
    """Keyword arguments for httpx's `request`."""
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


def _model(model: type[M]) -> Callable[[httpx.Response], M]:
    return lambda response: model.model_validate_json(response.content)


def _text(response: httpx.Response) -> str:
    return response.content.decode("utf-8", "replace")


def _nothing(response: httpx.Response) -> None:
    return None


def _seg(value: str) -> str:
    return quote(value, safe="")


# --- the manager itself, sign-in, users, tokens
def health() -> Call[events.Health]:
    return Call("GET", "/health", _model(events.Health), accept=(503,))


def metrics() -> Call[str]:
    return Call("GET", "/metrics", _text)


def openapi() -> Call[dict[str, Any]]:
    return Call("GET", "/openapi.json", lambda response: dict(response.json()))


def login(username: str, password: str) -> Call[auth.Session]:
    body = auth.Login(username=username, password=password)
    return Call("POST", "/v1/auth/login", _model(auth.Session), body)


def logout() -> Call[None]:
    return Call("POST", "/v1/auth/logout", _nothing)


def me() -> Call[auth.User]:
    return Call("GET", "/v1/auth/me", _model(auth.User))


def change_password(current: str, new: str) -> Call[None]:
    body = auth.PasswordChange(current_password=current, new_password=new)
    return Call("PUT", "/v1/auth/password", _nothing, body)


def users() -> Call[auth.UserList]:
    return Call("GET", "/v1/users", _model(auth.UserList))


def create_user(user: auth.UserCreate) -> Call[auth.User]:
    return Call("POST", "/v1/users", _model(auth.User), user)


def update_user(user_id: str, change: auth.UserUpdate) -> Call[auth.User]:
    return Call("PATCH", f"/v1/users/{_seg(user_id)}", _model(auth.User), change)


def delete_user(user_id: str) -> Call[None]:
    return Call("DELETE", f"/v1/users/{_seg(user_id)}", _nothing)


def tokens() -> Call[auth.TokenList]:
    return Call("GET", "/v1/tokens", _model(auth.TokenList))


def create_token(token: auth.TokenCreate) -> Call[auth.TokenCreated]:
    return Call("POST", "/v1/tokens", _model(auth.TokenCreated), token)


def delete_token(token_id: str) -> Call[None]:
    return Call("DELETE", f"/v1/tokens/{_seg(token_id)}", _nothing)


# --- VMs
def list_vms(host: str | None, tag: str | None, limit: int | None, offset: int | None) -> Call[vms.VmList]:
    query = {"host": host, "tag": tag, "limit": limit, "offset": offset}
    return Call("GET", "/v1/vms", _model(vms.VmList), query=query)


def get_vm(vm: str, fresh: bool = False) -> Call[vms.Vm]:
    return Call("GET", f"/v1/vms/{_seg(vm)}", _model(vms.Vm), query={"fresh": "true" if fresh else None})


def create_vm(vm: vms.VmCreate, idempotency_key: str | None) -> Call[vms.Vm]:
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    return Call("POST", "/v1/vms", _model(vms.Vm), vm, headers=headers, only_given=True)


def list_unknown_vms() -> Call[vms.UnknownVmList]:
    return Call("GET", "/v1/unknown-vms", _model(vms.UnknownVmList))


def adopt_vm(wanted: vms.VmAdopt) -> Call[vms.Vm]:
    return Call("POST", "/v1/vms/adopt", _model(vms.Vm), wanted)


def delete_unknown_vm(vm: str) -> Call[None]:
    return Call("DELETE", f"/v1/unknown-vms/{_seg(vm)}", _nothing, timeout=60.0)


def vm_verb(vm: str, verb: str, body: BaseModel | None = None) -> Call[vms.Vm]:
    return Call("POST", f"/v1/vms/{_seg(vm)}/{verb}", _model(vms.Vm), body)


def set_forwards(vm: str, forwards: vms.PortForwards) -> Call[vms.Vm]:
    return Call("PUT", f"/v1/vms/{_seg(vm)}/forwards", _model(vms.Vm), forwards)


def set_rate_limits(vm: str, limits: vms.RateLimits) -> Call[vms.Vm]:
    return Call("PUT", f"/v1/vms/{_seg(vm)}/rate-limits", _model(vms.Vm), limits)


def attach_volume(vm: str, volume: vms.VolumeCreate) -> Call[vms.Vm]:
    return Call("POST", f"/v1/vms/{_seg(vm)}/volumes", _model(vms.Vm), volume, only_given=True)


def detach_volume(vm: str, device: str, data: str | None) -> Call[vms.Vm]:
    return Call("DELETE", f"/v1/vms/{_seg(vm)}/volumes/{_seg(device)}", _model(vms.Vm), query={"data": data})


def list_snapshots(vm: str) -> Call[vms.SnapshotList]:
    return Call("GET", f"/v1/vms/{_seg(vm)}/snapshots", _model(vms.SnapshotList))


def create_snapshot(vm: str, name: str) -> Call[vms.Snapshot]:
    body = vms.SnapshotCreate(name=name)
    return Call("POST", f"/v1/vms/{_seg(vm)}/snapshots", _model(vms.Snapshot), body)


def restore_snapshot(vm: str, name: str) -> Call[vms.Vm]:
    return Call("POST", f"/v1/vms/{_seg(vm)}/snapshots/{_seg(name)}/restore", _model(vms.Vm))


def delete_snapshot(vm: str, name: str) -> Call[vms.Snapshot]:
    return Call("DELETE", f"/v1/vms/{_seg(vm)}/snapshots/{_seg(name)}", _model(vms.Snapshot))


def delete_vm(vm: str, force: bool) -> Call[None]:
    return Call("DELETE", f"/v1/vms/{_seg(vm)}", _nothing, query={"force": "true"} if force else {})


def console_ticket(vm: str) -> Call[vms.ConsoleTicket]:
    return Call("POST", f"/v1/vms/{_seg(vm)}/console-ticket", _model(vms.ConsoleTicket))


def console_log(vm: str) -> Call[str]:
    return Call("GET", f"/v1/vms/{_seg(vm)}/console/log", _text)


def vm_events(vm: str, limit: int) -> Call[events.EventList]:
    return Call("GET", f"/v1/vms/{_seg(vm)}/events", _model(events.EventList), query={"limit": limit})


# --- templates, volumes
def list_templates() -> Call[templates.TemplateList]:
    return Call("GET", "/v1/templates", _model(templates.TemplateList))


def get_template(name: str) -> Call[templates.Template]:
    return Call("GET", f"/v1/templates/{_seg(name)}", _model(templates.Template))


def create_template(template: templates.TemplateCreate) -> Call[templates.Template]:
    return Call("POST", "/v1/templates", _model(templates.Template), template)


def replace_template(name: str, spec: templates.TemplateSpec) -> Call[templates.Template]:
    return Call("PUT", f"/v1/templates/{_seg(name)}", _model(templates.Template), spec)


def delete_template(name: str) -> Call[None]:
    return Call("DELETE", f"/v1/templates/{_seg(name)}", _nothing)


def list_volumes(host: str | None) -> Call[volumes.StoredVolumeList]:
    return Call("GET", "/v1/volumes", _model(volumes.StoredVolumeList), query={"host": host})


def delete_volume(name: str) -> Call[None]:
    return Call("DELETE", f"/v1/volumes/{_seg(name)}", _nothing, timeout=60.0)


# --- images
def list_images() -> Call[images.ImageList]:
    return Call("GET", "/v1/images", _model(images.ImageList))


def get_image(name: str) -> Call[images.Image]:
    return Call("GET", f"/v1/images/{_seg(name)}", _model(images.Image))


def add_image(image: images.ImageAdd) -> Call[images.Image]:
    return Call("POST", "/v1/images", _model(images.Image), image, timeout=600.0)


def delete_image(name: str) -> Call[None]:
    return Call("DELETE", f"/v1/images/{_seg(name)}", _nothing)


def scan_images() -> Call[images.ImageList]:
    return Call("POST", "/v1/images/scan", _model(images.ImageList), timeout=600.0)


# --- hosts
def list_hosts() -> Call[hosts.HostList]:
    return Call("GET", "/v1/hosts", _model(hosts.HostList))


def get_host(host: str) -> Call[hosts.Host]:
    return Call("GET", f"/v1/hosts/{_seg(host)}", _model(hosts.Host))


def host_verb(host: str, verb: str) -> Call[hosts.Host]:
    return Call("POST", f"/v1/hosts/{_seg(host)}/{verb}", _model(hosts.Host))


def delete_host(host: str, force: bool) -> Call[None]:
    return Call("DELETE", f"/v1/hosts/{_seg(host)}", _nothing, query={"force": "true"} if force else {})


def join_token(ttl_seconds: int) -> Call[auth.JoinToken]:
    body = auth.JoinTokenCreate(ttl_seconds=ttl_seconds)
    return Call("POST", "/v1/hosts/join-tokens", _model(auth.JoinToken), body)


def register(host: hosts.HostRegister) -> Call[hosts.HostRegistered]:
    return Call("POST", "/v1/hosts/register", _model(hosts.HostRegistered), host)


def heartbeat(host_id: str, beat: hosts.Heartbeat) -> Call[None]:
    return Call("POST", f"/v1/hosts/{_seg(host_id)}/heartbeat", _nothing, beat)


def forward_guest(host_id: str, vm_id: str, report: agent.GuestReportForward) -> Call[None]:
    return Call("POST", f"/v1/hosts/{_seg(host_id)}/vms/{_seg(vm_id)}/guest", _nothing, report)


# --- events, audit
def list_events(limit: int, subject: str | None, after: int | None) -> Call[events.EventList]:
    query = {"limit": limit, "subject": subject, "after": after}
    return Call("GET", "/v1/events", _model(events.EventList), query=query)


def audit(limit: int) -> Call[events.AuditList]:
    return Call("GET", "/v1/audit", _model(events.AuditList), query={"limit": limit})
