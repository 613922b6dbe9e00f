"""`AsyncManagerClient`: the manager's API for programs that use asyncio. See `manager.py` for what its methods do and raise."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Literal, TypeVar

import httpx

from nqrust.client import manager_calls as calls
from nqrust.client.errors import Refused, Unreachable
from nqrust.client.waiting import Condition, Waiting
from nqrust.contract import agent, auth, events, hosts, images, templates, vms, volumes

T = TypeVar("T")
_POLL_SECONDS = 0.25


class AsyncManagerClient:
    """Asynchronous client. `timeout`: seconds per call; `transport`: for tests (httpx transports)."""

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        timeout: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            headers=calls.headers(token),
            timeout=timeout,
            transport=transport,
            trust_env=False,
        )

    async def __aenter__(self) -> AsyncManagerClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    def use_token(self, token: str) -> None:
        """Authenticate with `token` from now on."""
        self._http.headers["Authorization"] = f"Bearer {token}"

    async def _send(self, call: calls.Call[T]) -> T:
        try:
            response = await self._http.request(**calls.request_arguments(call))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(self.base_url, str(error) or type(error).__name__) from error
        return calls.answer(call, response)

    async def wait_for(
        self, vm: str, condition: Condition, timeout: float = 120.0, since: int = 0, steady: float = 0.0
    ) -> vms.Vm | None:
        wait = Waiting(vm, condition, timeout, since, steady)
        while True:
            try:
                found = await self.get_vm(vm, fresh=wait.fresh)
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
                await asyncio.sleep(_POLL_SECONDS)

    async def health(self) -> events.Health:
        """`status` is `ok`; anything else means that the manager's database is away."""
        return await self._send(calls.health())

    async def metrics(self) -> str:
        return await self._send(calls.metrics())

    async def openapi(self) -> dict[str, Any]:
        """The description of the API (OpenAPI 3.1)."""
        return await self._send(calls.openapi())

    async def login(self, username: str, password: str) -> auth.Session:
        """Sign in; the client uses the session's token from here on."""
        session = await self._send(calls.login(username, password))
        self.use_token(session.token)
        return session

    async def logout(self) -> None:
        return await self._send(calls.logout())

    async def me(self) -> auth.User:
        return await self._send(calls.me())

    async def change_password(self, current: str, new: str) -> None:
        """One's own; all other sessions of the user end. Raises pydantic's ValidationError when `new` is too short."""
        return await self._send(calls.change_password(current, new))

    async def users(self) -> auth.UserList:
        return await self._send(calls.users())

    async def create_user(self, user: auth.UserCreate) -> auth.User:
        return await self._send(calls.create_user(user))

    async def update_user(self, user_id: str, change: auth.UserUpdate) -> auth.User:
        return await self._send(calls.update_user(user_id, change))

    async def delete_user(self, user_id: str) -> None:
        return await self._send(calls.delete_user(user_id))

    async def tokens(self) -> auth.TokenList:
        return await self._send(calls.tokens())

    async def create_token(self, token: auth.TokenCreate) -> auth.TokenCreated:
        return await self._send(calls.create_token(token))

    async def delete_token(self, token_id: str) -> None:
        return await self._send(calls.delete_token(token_id))

    async def list_vms(
        self,
        host: str | None = None,
        tag: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> vms.VmList:
        return await self._send(calls.list_vms(host, tag, limit, offset))

    async def get_vm(self, vm: str, fresh: bool = False) -> vms.Vm:
        """`fresh`: its host is asked too, and its word about the state counts."""
        return await self._send(calls.get_vm(vm, fresh))

    async def create_vm(self, vm: vms.VmCreate, idempotency_key: str | None = None) -> vms.Vm:
        return await self._send(calls.create_vm(vm, idempotency_key))

    async def start_vm(self, vm: str) -> vms.Vm:
        return await self._send(calls.vm_verb(vm, "start"))

    async def stop_vm(self, vm: str, request: vms.StopRequest | None = None) -> vms.Vm:
        return await self._send(calls.vm_verb(vm, "stop", request or vms.StopRequest()))

    async def pause_vm(self, vm: str) -> vms.Vm:
        return await self._send(calls.vm_verb(vm, "pause"))

    async def resume_vm(self, vm: str) -> vms.Vm:
        return await self._send(calls.vm_verb(vm, "resume"))

    async def restart_vm(self, vm: str, request: vms.StopRequest | None = None) -> vms.Vm:
        return await self._send(calls.vm_verb(vm, "restart", request or vms.StopRequest()))

    async def set_forwards(self, vm: str, forwards: list[vms.PortForward]) -> vms.Vm:
        """These and no others."""
        return await self._send(calls.set_forwards(vm, vms.PortForwards(items=forwards)))

    async def set_rate_limits(self, vm: str, limits: vms.RateLimits) -> vms.Vm:
        """These and no others."""
        return await self._send(calls.set_rate_limits(vm, limits))

    async def attach_volume(self, vm: str, volume: vms.VolumeCreate) -> vms.Vm:
        """To a stopped VM. Accepted: done when the volume's `change` is None, given up when it is gone or `withdrawing`."""
        return await self._send(calls.attach_volume(vm, volume))

    async def detach_volume(self, vm: str, device: str, data: Literal["keep", "delete"] | None = None) -> vms.Vm:
        """From a stopped VM. Accepted: done when the volume is gone, given up when its `change` is None again."""
        return await self._send(calls.detach_volume(vm, device, data))

    async def list_unknown_vms(self) -> vms.UnknownVmList:
        """VMs that hosts have and no record tells of."""
        return await self._send(calls.list_unknown_vms())

    async def adopt_vm(self, vm: str, name: str | None = None) -> vms.Vm:
        """`vm`: id or name of an unknown one; `name`: a new name."""
        return await self._send(calls.adopt_vm(vms.VmAdopt(id=vm, name=name)))

    async def delete_unknown_vm(self, vm: str) -> None:
        """With its disk. Done when this returns."""
        return await self._send(calls.delete_unknown_vm(vm))

    async def list_snapshots(self, vm: str) -> vms.SnapshotList:
        return await self._send(calls.list_snapshots(vm))

    async def create_snapshot(self, vm: str, name: str) -> vms.Snapshot:
        """Accepted; `list_snapshots` tells when it is ready."""
        return await self._send(calls.create_snapshot(vm, name))

    async def restore_snapshot(self, vm: str, name: str) -> vms.Vm:
        return await self._send(calls.restore_snapshot(vm, name))

    async def delete_snapshot(self, vm: str, name: str) -> vms.Snapshot:
        return await self._send(calls.delete_snapshot(vm, name))

    async def delete_vm(self, vm: str, force: bool = False) -> None:
        """`wait_for(vm, "deleted")` tells when it is gone. `force`: even if its host is offline."""
        return await self._send(calls.delete_vm(vm, force))

    async def console_ticket(self, vm: str) -> vms.ConsoleTicket:
        return await self._send(calls.console_ticket(vm))

    async def console_url(self, vm: str) -> str:
        """A ws:// or wss:// URL that opens the console once, within half a minute."""
        return calls.websocket_url(self.base_url, await self.console_ticket(vm))

    async def console_log(self, vm: str) -> str:
        return await self._send(calls.console_log(vm))

    async def vm_events(self, vm: str, limit: int = 100) -> events.EventList:
        return await self._send(calls.vm_events(vm, limit))

    async def list_templates(self) -> templates.TemplateList:
        return await self._send(calls.list_templates())

    async def get_template(self, name: str) -> templates.Template:
        return await self._send(calls.get_template(name))

    async def create_template(self, template: templates.TemplateCreate) -> templates.Template:
        return await self._send(calls.create_template(template))

    async def replace_template(self, name: str, spec: templates.TemplateSpec) -> templates.Template:
        """All of it; VMs that were made of it stay as they are."""
        return await self._send(calls.replace_template(name, spec))

    async def delete_template(self, name: str) -> None:
        return await self._send(calls.delete_template(name))

    async def list_volumes(self, host: str | None = None) -> volumes.StoredVolumeList:
        """Kept ones, attached or not."""
        return await self._send(calls.list_volumes(host))

    async def delete_volume(self, name: str) -> None:
        """With what is in it."""
        return await self._send(calls.delete_volume(name))

    async def list_images(self) -> images.ImageList:
        return await self._send(calls.list_images())

    async def get_image(self, name: str) -> images.Image:
        return await self._send(calls.get_image(name))

    async def add_image(self, image: images.ImageAdd) -> images.Image:
        return await self._send(calls.add_image(image))

    async def delete_image(self, name: str) -> None:
        return await self._send(calls.delete_image(name))

    async def scan_images(self) -> images.ImageList:
        return await self._send(calls.scan_images())

    async def list_hosts(self) -> hosts.HostList:
        return await self._send(calls.list_hosts())

    async def get_host(self, host: str) -> hosts.Host:
        return await self._send(calls.get_host(host))

    async def cordon_host(self, host: str) -> hosts.Host:
        return await self._send(calls.host_verb(host, "cordon"))

    async def uncordon_host(self, host: str) -> hosts.Host:
        return await self._send(calls.host_verb(host, "uncordon"))

    async def drain_host(self, host: str) -> hosts.Host:
        return await self._send(calls.host_verb(host, "drain"))

    async def delete_host(self, host: str, force: bool = False) -> None:
        return await self._send(calls.delete_host(host, force))

    async def join_token(self, ttl_seconds: int = 3600) -> auth.JoinToken:
        return await self._send(calls.join_token(ttl_seconds))

    async def register(self, host: hosts.HostRegister) -> hosts.HostRegistered:
        return await self._send(calls.register(host))

    async def heartbeat(self, host_id: str, beat: hosts.Heartbeat) -> None:
        return await self._send(calls.heartbeat(host_id, beat))

    async def forward_guest(self, host_id: str, vm_id: str, report: agent.GuestReportForward) -> None:
        return await self._send(calls.forward_guest(host_id, vm_id, report))

    async def list_events(self, limit: int = 100, subject: str | None = None, after: int | None = None) -> events.EventList:
        """Newest first. `subject`: id or name of a thing; `after`: only events with a larger id."""
        return await self._send(calls.list_events(limit, subject, after))

    async def audit(self, limit: int = 100) -> events.AuditList:
        return await self._send(calls.audit(limit))
