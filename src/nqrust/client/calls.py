"""The manager's API: one function for each route. It returns a Call for a client to send.

    manager.send(calls.create_vm(VmCreate(name="web1", image="tiny")))

`vm`, `host`: an id or a name. Timeouts are in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from nqrust.client.call import Call, model, nothing, segment, text
from nqrust.client.later import Contract

if TYPE_CHECKING:
    from nqrust.contract import agent, auth, events, hosts, images, templates, unknown_vms, vms, volumes
else:
    agent, auth, events, hosts, images = map(Contract, ("agent", "auth", "events", "hosts", "images"))
    templates, unknown_vms, vms, volumes = map(Contract, ("templates", "unknown_vms", "vms", "volumes"))


# --- the manager itself, sign-in, users, tokens
def health() -> Call[events.Health]:
    """Read the manager's health. `status` is `ok`; any other value means that its database is unreachable."""
    return Call("GET", "/health", model(events.Health), accept=(503,))


def metrics() -> Call[str]:
    return Call("GET", "/metrics", text)


def openapi() -> Call[dict[str, Any]]:
    """Read the description of the API (OpenAPI 3.1)."""
    return Call("GET", "/openapi.json", lambda response: dict(response.json()))


def login(username: str, password: str) -> Call[auth.Session]:
    """Sign in. Pass the session's token to `use_token`."""
    body = auth.Login(username=username, password=password)
    return Call("POST", "/v1/auth/login", model(auth.Session), body)


def logout() -> Call[None]:
    return Call("POST", "/v1/auth/logout", nothing)


def me() -> Call[auth.User]:
    return Call("GET", "/v1/auth/me", model(auth.User))


def change_password(current: str, new: str) -> Call[None]:
    """Change the signed-in user's own password. All other sessions of the user end.

    Raises pydantic's ValidationError if `new` is too short.
    """
    body = auth.PasswordChange(current_password=current, new_password=new)
    return Call("PUT", "/v1/auth/password", nothing, body)


def users() -> Call[auth.UserList]:
    return Call("GET", "/v1/users", model(auth.UserList))


def create_user(user: auth.UserCreate) -> Call[auth.User]:
    return Call("POST", "/v1/users", model(auth.User), user)


def update_user(user_id: str, change: auth.UserUpdate) -> Call[auth.User]:
    return Call("PATCH", f"/v1/users/{segment(user_id)}", model(auth.User), change)


def delete_user(user_id: str) -> Call[None]:
    return Call("DELETE", f"/v1/users/{segment(user_id)}", nothing)


def tokens() -> Call[auth.TokenList]:
    return Call("GET", "/v1/tokens", model(auth.TokenList))


def create_token(token: auth.TokenCreate) -> Call[auth.TokenCreated]:
    return Call("POST", "/v1/tokens", model(auth.TokenCreated), token)


def delete_token(token_id: str) -> Call[None]:
    return Call("DELETE", f"/v1/tokens/{segment(token_id)}", nothing)


# --- VMs
def list_vms(
    host: str | None = None, tag: str | None = None, limit: int | None = None, offset: int | None = None
) -> Call[vms.VmList]:
    query = {"host": host, "tag": tag, "limit": limit, "offset": offset}
    return Call("GET", "/v1/vms", model(vms.VmList), query=query)


def get_vm(vm: str, fresh: bool = False) -> Call[vms.Vm]:
    """Read a VM. `fresh`: the manager asks the host too, and reports the host's state."""
    return Call("GET", f"/v1/vms/{segment(vm)}", model(vms.Vm), query={"fresh": "true" if fresh else None})


def create_vm(vm: vms.VmCreate, idempotency_key: str | None = None) -> Call[vms.Vm]:
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    return Call("POST", "/v1/vms", model(vms.Vm), vm, headers=headers, only_given=True)


def list_unknown_vms() -> Call[unknown_vms.UnknownVmList]:
    """List VMs that hosts have without a record."""
    return Call("GET", "/v1/unknown-vms", model(unknown_vms.UnknownVmList))


def adopt_vm(vm: str, name: str | None = None) -> Call[vms.Vm]:
    """Adopt a VM. `vm`: id or name of an unknown one; `name`: a new name. Raises NoName."""
    segment(vm)
    return Call("POST", "/v1/vms/adopt", model(vms.Vm), unknown_vms.VmAdopt(id=vm, name=name))


def delete_unknown_vm(vm: str) -> Call[None]:
    """Delete an unknown VM with its disk. Complete when the answer arrives."""
    return Call("DELETE", f"/v1/unknown-vms/{segment(vm)}", nothing, timeout=60.0)


def start_vm(vm: str) -> Call[vms.Vm]:
    return _act(vm, "start")


def stop_vm(vm: str, request: vms.StopRequest | None = None) -> Call[vms.Vm]:
    return _act(vm, "stop", request or vms.StopRequest())


def restart_vm(vm: str, request: vms.StopRequest | None = None) -> Call[vms.Vm]:
    return _act(vm, "restart", request or vms.StopRequest())


def pause_vm(vm: str) -> Call[vms.Vm]:
    return _act(vm, "pause")


def resume_vm(vm: str) -> Call[vms.Vm]:
    return _act(vm, "resume")


def _act(vm: str, verb: str, body: vms.StopRequest | None = None) -> Call[vms.Vm]:
    return Call("POST", f"/v1/vms/{segment(vm)}/{verb}", model(vms.Vm), body)


def set_forwards(vm: str, forwards: list[vms.PortForward]) -> Call[vms.Vm]:
    """Replace all port forwards of a VM."""
    return Call("PUT", f"/v1/vms/{segment(vm)}/forwards", model(vms.Vm), vms.PortForwards(items=forwards))


def set_rate_limits(vm: str, limits: vms.RateLimits) -> Call[vms.Vm]:
    """Replace all rate limits of a VM."""
    return Call("PUT", f"/v1/vms/{segment(vm)}/rate-limits", model(vms.Vm), limits)


def attach_volume(vm: str, volume: vms.VolumeCreate) -> Call[vms.Vm]:
    """Attach a volume to a stopped VM. Complete when the volume's `change` is None; failed if it is gone or `withdrawing`."""
    return Call("POST", f"/v1/vms/{segment(vm)}/volumes", model(vms.Vm), volume, only_given=True)


def detach_volume(vm: str, device: str, data: Literal["keep", "delete"] | None = None, volume: str | None = None) -> Call[vms.Vm]:
    """Detach a volume from a stopped VM. Complete when the volume is gone; failed if its `change` is None again.

    `volume`: its `kept_name`. The manager refuses if the device is another volume by now.
    """
    query = {"data": data, "volume": volume}
    return Call("DELETE", f"/v1/vms/{segment(vm)}/volumes/{segment(device)}", model(vms.Vm), query=query)


def list_snapshots(vm: str) -> Call[vms.SnapshotList]:
    return Call("GET", f"/v1/vms/{segment(vm)}/snapshots", model(vms.SnapshotList))


def create_snapshot(vm: str, name: str) -> Call[vms.Snapshot]:
    """Request a snapshot; `list_snapshots` shows when it is ready."""
    body = vms.SnapshotCreate(name=name)
    return Call("POST", f"/v1/vms/{segment(vm)}/snapshots", model(vms.Snapshot), body)


def restore_snapshot(vm: str, name: str) -> Call[vms.Vm]:
    return Call("POST", f"/v1/vms/{segment(vm)}/snapshots/{segment(name)}/restore", model(vms.Vm))


def delete_snapshot(vm: str, name: str) -> Call[vms.Snapshot]:
    return Call("DELETE", f"/v1/vms/{segment(vm)}/snapshots/{segment(name)}", model(vms.Snapshot))


def delete_vm(vm: str, force: bool = False) -> Call[None]:
    """Delete a VM; `wait_for(vm, "deleted")` waits for the end. `force`: even if its host is offline."""
    return Call("DELETE", f"/v1/vms/{segment(vm)}", nothing, query={"force": "true"} if force else {})


def console_ticket(vm: str) -> Call[vms.ConsoleTicket]:
    """Create a ticket that opens the console once, within half a minute; see `websocket_url`."""
    return Call("POST", f"/v1/vms/{segment(vm)}/console-ticket", model(vms.ConsoleTicket))


def exec_ticket(vm: str) -> Call[vms.ConsoleTicket]:
    """Create a ticket that opens one session in the guest, within half a minute; see `websocket_url`."""
    return Call("POST", f"/v1/vms/{segment(vm)}/exec-ticket", model(vms.ConsoleTicket))


def console_log(vm: str, tail: int | None = None) -> Call[str]:
    """Read the output of the serial port: the last `tail` bytes, or the last MiB."""
    return Call("GET", f"/v1/vms/{segment(vm)}/console/log", text, query={"tail": tail} if tail else {})


def vm_events(vm: str, limit: int = 100) -> Call[events.EventList]:
    return Call("GET", f"/v1/vms/{segment(vm)}/events", model(events.EventList), query={"limit": limit})


# --- templates, volumes
def list_templates(limit: int | None = None, offset: int | None = None) -> Call[templates.TemplateList]:
    """List a page of the templates; `all_templates` of a client reads all pages."""
    return Call("GET", "/v1/templates", model(templates.TemplateList), query={"limit": limit, "offset": offset})


def get_template(name: str) -> Call[templates.Template]:
    return Call("GET", f"/v1/templates/{segment(name)}", model(templates.Template))


def create_template(template: templates.TemplateCreate) -> Call[templates.Template]:
    return Call("POST", "/v1/templates", model(templates.Template), template)


def replace_template(name: str, spec: templates.TemplateSpec) -> Call[templates.Template]:
    """Replace the whole template. Existing VMs do not change."""
    return Call("PUT", f"/v1/templates/{segment(name)}", model(templates.Template), spec)


def delete_template(name: str) -> Call[None]:
    return Call("DELETE", f"/v1/templates/{segment(name)}", nothing)


def list_volumes(host: str | None = None) -> Call[volumes.StoredVolumeList]:
    """List kept volumes, attached or not."""
    return Call("GET", "/v1/volumes", model(volumes.StoredVolumeList), query={"host": host})


def delete_volume(name: str) -> Call[None]:
    """Delete the volume and its data."""
    return Call("DELETE", f"/v1/volumes/{segment(name)}", nothing, timeout=60.0)


# --- images
def list_images(reference: str | None = None) -> Call[images.ImageList]:
    """List the images. `reference`: only the one of that name, or pulled from it."""
    return Call("GET", "/v1/images", model(images.ImageList), query={"reference": reference} if reference else {})


def get_image(name: str) -> Call[images.Image]:
    return Call("GET", f"/v1/images/{segment(name)}", model(images.Image))


def add_image(image: images.ImageAdd) -> Call[images.Image]:
    return Call("POST", "/v1/images", model(images.Image), image, timeout=600.0)


def pull_image(wanted: images.ImagePull) -> Call[images.Image]:
    return Call("POST", "/v1/images/pull", model(images.Image), wanted)


def delete_image(name: str) -> Call[None]:
    return Call("DELETE", f"/v1/images/{segment(name)}", nothing)


def list_cloud_images() -> Call[images.CloudImageList]:
    """List the catalogue of cloud images."""
    return Call("GET", "/v1/image-catalogue", model(images.CloudImageList))


def scan_images() -> Call[images.ImageList]:
    return Call("POST", "/v1/images/scan", model(images.ImageList), timeout=600.0)


# --- hosts
def list_hosts() -> Call[hosts.HostList]:
    return Call("GET", "/v1/hosts", model(hosts.HostList))


def get_host(host: str) -> Call[hosts.Host]:
    return Call("GET", f"/v1/hosts/{segment(host)}", model(hosts.Host))


def cordon_host(host: str) -> Call[hosts.Host]:
    return Call("POST", f"/v1/hosts/{segment(host)}/cordon", model(hosts.Host))


def uncordon_host(host: str) -> Call[hosts.Host]:
    return Call("POST", f"/v1/hosts/{segment(host)}/uncordon", model(hosts.Host))


def rotation() -> Call[hosts.Rotation]:
    """Read which hosts have the newest secrets."""
    return Call("GET", "/v1/rotation", model(hosts.Rotation))


def rotate_certificates() -> Call[hosts.Rotation]:
    return Call("POST", "/v1/rotation/certificates", model(hosts.Rotation))


def rotate_tokens() -> Call[hosts.Rotation]:
    return Call("POST", "/v1/rotation/tokens", model(hosts.Rotation))


def drain_host(host: str) -> Call[hosts.Host]:
    return Call("POST", f"/v1/hosts/{segment(host)}/drain", model(hosts.Host))


def delete_host(host: str, force: bool = False) -> Call[None]:
    return Call("DELETE", f"/v1/hosts/{segment(host)}", nothing, query={"force": "true"} if force else {})


def join_token(host: str, ttl_seconds: int = 3600, replace: bool = False) -> Call[auth.JoinToken]:
    """Create a token for the agent of `host`. `replace`: it may take over an existing host of that name.

    Raises pydantic's ValidationError for an impossible name.
    """
    body = auth.JoinTokenCreate(host=host, ttl_seconds=ttl_seconds, replace=replace)
    return Call("POST", "/v1/hosts/join-tokens", model(auth.JoinToken), body)


def register(host: hosts.HostRegister) -> Call[hosts.HostRegistered]:
    return Call("POST", "/v1/hosts/register", model(hosts.HostRegistered), host)


def heartbeat(host_id: str, beat: hosts.Heartbeat) -> Call[None]:
    return Call("POST", f"/v1/hosts/{segment(host_id)}/heartbeat", nothing, beat)


def forward_guest(host_id: str, vm_id: str, report: agent.GuestReportForward) -> Call[None]:
    return Call("POST", f"/v1/hosts/{segment(host_id)}/vms/{segment(vm_id)}/guest", nothing, report)


# --- events, audit
def list_events(limit: int = 100, subject: str | None = None, after: int | None = None) -> Call[events.EventList]:
    """List events, newest first. `subject`: id or name of a thing; `after`: only events with a larger id."""
    query = {"limit": limit, "subject": subject, "after": after}
    return Call("GET", "/v1/events", model(events.EventList), query=query)


def audit(limit: int = 100, after: int | None = None, since: str | None = None) -> Call[events.AuditList]:
    """List the audit log, newest first. `after` (an id) or `since` (an ISO 8601 time): from there on, oldest first."""
    query = {"limit": limit, "after": after, "since": since}
    return Call("GET", "/v1/audit", model(events.AuditList), query=query)
