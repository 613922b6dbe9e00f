"""Typed clients of the manager's API: `ManagerClient` (synchronous) and `AsyncManagerClient`.

    with ManagerClient("http://127.0.0.1:18080", token=token) as manager:
        vm = manager.create_vm(VmCreate(name="web1", image="tiny"))
        vm = manager.wait_for(vm.name, "guest_up", timeout=60)

Every method raises Unreachable when nobody answers and Refused when the manager says no. Timeouts are in
seconds. `wait_for` polls until a condition holds and gives the VM as it then is (None for `deleted`); it
raises WaitTimeout when time is up and WaitFailed at once when the VM failed or is gone. With `since`, the
generation of a VM that a change was just asked of, it ends only when the VM's host has made that change and
says so. `steady`: seconds for which a VM has to run, unless its guest reports. A manager that is briefly away
is waited for too.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Literal, TypeVar

import httpx

from nqrust.client import manager_calls as calls
from nqrust.client.errors import ClientError, Refused, Unreachable, WaitFailed, WaitTimeout
from nqrust.client.manager_async import AsyncManagerClient
from nqrust.client.waiting import Condition, Waiting
from nqrust.contract import agent, auth, events, hosts, images, templates, vms, volumes

__all__ = [
    "AsyncManagerClient",
    "ClientError",
    "ManagerClient",
    "Refused",
    "Unreachable",
    "WaitFailed",
    "WaitTimeout",
]

T = TypeVar("T")
_POLL_SECONDS = 0.25


class ManagerClient:
    """Synchronous client. `timeout`: seconds per call; `transport`: for tests (httpx transports)."""

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.base_url,
            headers=calls.headers(token),
            timeout=timeout,
            transport=transport,
            trust_env=False,
        )

    def __enter__(self) -> ManagerClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def use_token(self, token: str) -> None:
        """Authenticate with `token` from now on."""
        self._http.headers["Authorization"] = f"Bearer {token}"

    def _send(self, call: calls.Call[T]) -> T:
        try:
            response = self._http.request(**calls.request_arguments(call))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(self.base_url, str(error) or type(error).__name__) from error
        return calls.answer(call, response)

    def wait_for(
        self, vm: str, condition: Condition, timeout: float = 120.0, since: int = 0, steady: float = 0.0
    ) -> vms.Vm | None:
        wait = Waiting(vm, condition, timeout, since, steady)
        while True:
            try:
                found = self.get_vm(vm, fresh=wait.fresh)
                if wait.over(found):
                    return found
            except Refused as refused:
                if refused.status == 404:
                    wait.over(None)
                    return None
                if refused.status not in (502, 503, 504):
                    raise
            except Unreachable:
                if wait.late():
                    raise
            if wait.late():
                raise wait.timed_out()
            if not wait.hurries():
                time.sleep(_POLL_SECONDS)

    def health(self) -> events.Health:
        """`status` is `ok`; anything else means that the manager's database is away."""
        return self._send(calls.health())

    def metrics(self) -> str:
        return self._send(calls.metrics())

    def openapi(self) -> dict[str, Any]:
        """The description of the API (OpenAPI 3.1)."""
        return self._send(calls.openapi())

    def login(self, username: str, password: str) -> auth.Session:
        """Sign in; the client uses the session's token from here on."""
        session = self._send(calls.login(username, password))
        self.use_token(session.token)
        return session

    def logout(self) -> None:
        return self._send(calls.logout())

    def me(self) -> auth.User:
        return self._send(calls.me())

    def change_password(self, current: str, new: str) -> None:
        """One's own; all other sessions of the user end. Raises pydantic's ValidationError when `new` is too short."""
        return self._send(calls.change_password(current, new))

    def users(self) -> auth.UserList:
        return self._send(calls.users())

    def create_user(self, user: auth.UserCreate) -> auth.User:
        return self._send(calls.create_user(user))

    def update_user(self, user_id: str, change: auth.UserUpdate) -> auth.User:
        return self._send(calls.update_user(user_id, change))

    def delete_user(self, user_id: str) -> None:
        return self._send(calls.delete_user(user_id))

    def tokens(self) -> auth.TokenList:
        return self._send(calls.tokens())

    def create_token(self, token: auth.TokenCreate) -> auth.TokenCreated:
        return self._send(calls.create_token(token))

    def delete_token(self, token_id: str) -> None:
        return self._send(calls.delete_token(token_id))

    def list_vms(
        self,
        host: str | None = None,
        tag: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> vms.VmList:
        return self._send(calls.list_vms(host, tag, limit, offset))

    def get_vm(self, vm: str, fresh: bool = False) -> vms.Vm:
        """`fresh`: its host is asked too, and its word about the state counts."""
        return self._send(calls.get_vm(vm, fresh))

    def create_vm(self, vm: vms.VmCreate, idempotency_key: str | None = None) -> vms.Vm:
        return self._send(calls.create_vm(vm, idempotency_key))

    def start_vm(self, vm: str) -> vms.Vm:
        return self._send(calls.vm_verb(vm, "start"))

    def stop_vm(self, vm: str, request: vms.StopRequest | None = None) -> vms.Vm:
        return self._send(calls.vm_verb(vm, "stop", request or vms.StopRequest()))

    def pause_vm(self, vm: str) -> vms.Vm:
        return self._send(calls.vm_verb(vm, "pause"))

    def resume_vm(self, vm: str) -> vms.Vm:
        return self._send(calls.vm_verb(vm, "resume"))

    def restart_vm(self, vm: str, request: vms.StopRequest | None = None) -> vms.Vm:
        return self._send(calls.vm_verb(vm, "restart", request or vms.StopRequest()))

    def set_forwards(self, vm: str, forwards: list[vms.PortForward]) -> vms.Vm:
        """These and no others."""
        return self._send(calls.set_forwards(vm, vms.PortForwards(items=forwards)))

    def set_rate_limits(self, vm: str, limits: vms.RateLimits) -> vms.Vm:
        """These and no others."""
        return self._send(calls.set_rate_limits(vm, limits))

    def attach_volume(self, vm: str, volume: vms.VolumeCreate) -> vms.Vm:
        """To a stopped VM. Accepted: done when the volume's `change` is None, given up when it is gone or `withdrawing`."""
        return self._send(calls.attach_volume(vm, volume))

    def detach_volume(self, vm: str, device: str, data: Literal["keep", "delete"] | None = None) -> vms.Vm:
        """From a stopped VM. Accepted: done when the volume is gone, given up when its `change` is None again."""
        return self._send(calls.detach_volume(vm, device, data))

    def list_unknown_vms(self) -> vms.UnknownVmList:
        """VMs that hosts have and no record tells of."""
        return self._send(calls.list_unknown_vms())

    def adopt_vm(self, vm: str, name: str | None = None) -> vms.Vm:
        """`vm`: id or name of an unknown one; `name`: a new name."""
        return self._send(calls.adopt_vm(vms.VmAdopt(id=vm, name=name)))

    def delete_unknown_vm(self, vm: str) -> None:
        """With its disk. Done when this returns."""
        return self._send(calls.delete_unknown_vm(vm))

    def list_snapshots(self, vm: str) -> vms.SnapshotList:
        return self._send(calls.list_snapshots(vm))

    def create_snapshot(self, vm: str, name: str) -> vms.Snapshot:
        """Accepted; `list_snapshots` tells when it is ready."""
        return self._send(calls.create_snapshot(vm, name))

    def restore_snapshot(self, vm: str, name: str) -> vms.Vm:
        return self._send(calls.restore_snapshot(vm, name))

    def delete_snapshot(self, vm: str, name: str) -> vms.Snapshot:
        return self._send(calls.delete_snapshot(vm, name))

    def delete_vm(self, vm: str, force: bool = False) -> None:
        """`wait_for(vm, "deleted")` tells when it is gone. `force`: even if its host is offline."""
        return self._send(calls.delete_vm(vm, force))

    def console_ticket(self, vm: str) -> vms.ConsoleTicket:
        return self._send(calls.console_ticket(vm))

    def console_url(self, vm: str) -> str:
        """A ws:// or wss:// URL that opens the console once, within half a minute."""
        return calls.websocket_url(self.base_url, self.console_ticket(vm))

    def console_log(self, vm: str) -> str:
        return self._send(calls.console_log(vm))

    def vm_events(self, vm: str, limit: int = 100) -> events.EventList:
        return self._send(calls.vm_events(vm, limit))

    def list_templates(self) -> templates.TemplateList:
        return self._send(calls.list_templates())

    def get_template(self, name: str) -> templates.Template:
        return self._send(calls.get_template(name))

    def create_template(self, template: templates.TemplateCreate) -> templates.Template:
        return self._send(calls.create_template(template))

    def replace_template(self, name: str, spec: templates.TemplateSpec) -> templates.Template:
        """All of it; VMs that were made of it stay as they are."""
        return self._send(calls.replace_template(name, spec))

    def delete_template(self, name: str) -> None:
        return self._send(calls.delete_template(name))

    def list_volumes(self, host: str | None = None) -> volumes.StoredVolumeList:
        """Kept ones, attached or not."""
        return self._send(calls.list_volumes(host))

    def delete_volume(self, name: str) -> None:
        """With what is in it."""
        return self._send(calls.delete_volume(name))

    def list_images(self) -> images.ImageList:
        return self._send(calls.list_images())

    def get_image(self, name: str) -> images.Image:
        return self._send(calls.get_image(name))

    def add_image(self, image: images.ImageAdd) -> images.Image:
        return self._send(calls.add_image(image))

    def delete_image(self, name: str) -> None:
        return self._send(calls.delete_image(name))

    def scan_images(self) -> images.ImageList:
        return self._send(calls.scan_images())

    def list_hosts(self) -> hosts.HostList:
        return self._send(calls.list_hosts())

    def get_host(self, host: str) -> hosts.Host:
        return self._send(calls.get_host(host))

    def cordon_host(self, host: str) -> hosts.Host:
        return self._send(calls.host_verb(host, "cordon"))

    def uncordon_host(self, host: str) -> hosts.Host:
        return self._send(calls.host_verb(host, "uncordon"))

    def drain_host(self, host: str) -> hosts.Host:
        return self._send(calls.host_verb(host, "drain"))

    def delete_host(self, host: str, force: bool = False) -> None:
        return self._send(calls.delete_host(host, force))

    def join_token(self, ttl_seconds: int = 3600) -> auth.JoinToken:
        return self._send(calls.join_token(ttl_seconds))

    def register(self, host: hosts.HostRegister) -> hosts.HostRegistered:
        return self._send(calls.register(host))

    def heartbeat(self, host_id: str, beat: hosts.Heartbeat) -> None:
        return self._send(calls.heartbeat(host_id, beat))

    def forward_guest(self, host_id: str, vm_id: str, report: agent.GuestReportForward) -> None:
        return self._send(calls.forward_guest(host_id, vm_id, report))

    def list_events(self, limit: int = 100, subject: str | None = None, after: int | None = None) -> events.EventList:
        """Newest first. `subject`: id or name of a thing; `after`: only events with a larger id."""
        return self._send(calls.list_events(limit, subject, after))

    def audit(self, limit: int = 100) -> events.AuditList:
        return self._send(calls.audit(limit))
