"""Client of an agent's API (`contract.agent`), asynchronous.

AgentClientError        of client.errors
├── AgentUnreachable    no answer: no connection, or none in time
└── AgentRefused        an error answer; `status` and `problem` have the details
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from nqrust import loopback
from nqrust.client.agent_socket import AgentSocket
from nqrust.client.errors import AgentClientError
from nqrust.client.lookups import LookedUp, Lookups, is_address
from nqrust.contract.agent import AgentHealth, Inventory, TapStatus, VmDocument, VmSpec, VmStatus
from nqrust.contract.problem import Problem
from nqrust.contract.text import shown
from nqrust.contract.vms import SnapshotFound, StopRequest
from nqrust.contract.volumes import KeptVolume
from nqrust.tls.pieces import Coarse
from nqrust.tls.transports import NamedTransport, guard


@dataclass(frozen=True)
class Tls:
    """TLS with an agent: `context` trusts the installation's authority, `name` is the one in the agent's certificate."""

    context: ssl.SSLContext
    name: str


@lru_cache(maxsize=1)
def _trust() -> ssl.SSLContext:
    """Return one TLS context for all clients: reading the authorities takes 20 ms and 500 KB; a manager has a hundred agents."""
    return httpx.create_ssl_context(trust_env=False)


NOTICES_SILENCE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 25_000),
)
"""Options of a connection, tcp(7): they detect a lost network or a power failure of the host after 25 seconds.

This also covers requests that may take minutes. A host that is only slow answers the probes.
"""


def _transport(tls: Tls | None, lookups: Lookups) -> httpx.AsyncHTTPTransport:
    if tls is not None:
        made: httpx.AsyncHTTPTransport = NamedTransport(tls.name, tls.context, NOTICES_SILENCE)
    else:
        made = httpx.AsyncHTTPTransport(verify=_trust(), trust_env=False, socket_options=NOTICES_SILENCE)
    pool: Any = made._pool
    pool._network_backend = LookedUp(pool._network_backend, lookups)
    return made


LARGEST = 16 << 20
"""Bytes of an answer. The longest honest ones are an inventory, 2 KiB a VM, and the last MiB of a console log."""
_AT_ONCE = 512 << 10
"""Bytes of an inventory that are parsed without a thread, and of any other answer that is parsed."""
_LONGEST_PROBLEM = 64 << 10
_MOST_PARTS, _MOST_VALUES = 300_000, 1_000_000
"""Objects with lists, and values, of an inventory. One of 10,000 VMs has a third of them. Empty lists take three bytes each, and 20
times as much memory; nothing else of the manager runs while they are made."""
_ENTRIES: dict[str, type[BaseModel]] = {"vms": VmStatus, "taps": TapStatus, "volumes": KeptVolume}
_READING = 60.0
"""Seconds for the whole answer, beside the time in which it must begin."""


class AgentUnreachable(AgentClientError):
    def __init__(self, url: str, why: str) -> None:
        self.url = url
        super().__init__(f"the agent at {url} does not answer: {why}")


class AgentRefused(AgentClientError):
    def __init__(self, status: int, problem: Problem) -> None:
        self.status, self.problem = status, problem
        super().__init__(f"{problem.code or status}: {problem.title} {problem.cure}".strip())


class AgentClient:
    """Client of the agent at `base_url`. `token`: the host's command token, or on its own host the local one.

    `tls`: how an https agent proves itself. `timeout`, seconds, is for reads and quick verbs; a verb that may wait for a guest
    gets its own time on top. `lookups`: of the host, whose clients share them. Tasks may share it. Close it, or use it as an async context manager. Raises AgentUnreachable for an
    address that is none.
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        timeout: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
        tls: Tls | None = None,
        lookups: Lookups | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._token, self._timeout = token, timeout
        self._tls = tls if self.base_url.startswith("https:") else None
        self.lookups = lookups or Lookups()
        self._transport = transport or _transport(self._tls, self.lookups)
        self._running, self._retired = 0, False
        try:
            self._http = httpx.AsyncClient(
                base_url=self.base_url,
                timeout=httpx.Timeout(timeout, connect=min(timeout, 5.0)),
                transport=Coarse(self._transport),
                headers={"Authorization": f"Bearer {token}"},
                trust_env=False,
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise AgentUnreachable(base_url, str(error)) from error
        guard(self._http)

    async def __aenter__(self) -> AgentClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def retire(self) -> None:
        """Close the connections once the running requests have ended. Later requests still work, each on a connection of its
        own."""
        self._retired = True
        if not self._running:
            await self._transport.aclose()

    # --- reading
    async def health(self) -> AgentHealth:
        return AgentHealth.model_validate_json((await self._send("GET", "/agent/v1/health")).content)

    async def inventory(self) -> Inventory:
        content = (await self._send("GET", "/agent/v1/inventory", largest=LARGEST)).content
        if len(content) <= _AT_ONCE:
            return Inventory.model_validate_json(content)
        try:
            return await asyncio.to_thread(_long_inventory, content)
        except ValidationError:
            raise
        except ValueError as error:
            raise AgentUnreachable(self.base_url, f"its answer is no JSON: {error}") from error

    async def get_vm(self, vm_id: str) -> VmStatus | None:
        """Return the VM's status, or None if it has neither disk nor scope."""
        try:
            return _status(await self._send("GET", self._vm(vm_id)))
        except AgentRefused as error:
            if error.status == 404:
                return None
            raise

    async def vm_record(self, vm_id: str) -> VmDocument:
        """Return the host's record of a VM."""
        return VmDocument.model_validate_json((await self._send("GET", f"{self._vm(vm_id)}/record", largest=LARGEST)).content)

    async def console_log(self, vm_id: str, tail: int | None = None) -> str:
        """Return the output of the serial port: the last `tail` bytes, or the last MiB."""
        path = f"{self._vm(vm_id)}/console/log" + (f"?tail={tail}" if tail else "")
        return (await self._send("GET", path, largest=LARGEST)).text

    # --- verbs
    async def put_vm(self, spec: VmSpec, *, timeout: float = 300.0) -> VmStatus:
        """Create or update a VM. `timeout` covers downloading the image and creating a large disk."""
        return _status(await self._send("PUT", self._vm(spec.id), spec.model_dump(mode="json"), timeout))

    async def stop_vm(self, vm_id: str, request: StopRequest | None = None, generation: int | None = None) -> VmStatus:
        """Stop a VM. `generation`, here and below: of the manager's row. A host that knows a newer one refuses."""
        request = request or StopRequest()
        timeout = self._timeout + request.timeout_seconds + 15
        path = _of(f"{self._vm(vm_id)}/stop", generation)
        return _status(await self._send("POST", path, request.model_dump(mode="json"), timeout))

    async def pause_vm(self, vm_id: str, generation: int | None = None) -> VmStatus:
        return _status(await self._send("POST", _of(f"{self._vm(vm_id)}/pause", generation)))

    async def resume_vm(self, vm_id: str, generation: int | None = None) -> VmStatus:
        return _status(await self._send("POST", _of(f"{self._vm(vm_id)}/resume", generation)))

    async def delete_vm(self, vm_id: str) -> None:
        await self._send("DELETE", self._vm(vm_id), timeout=self._timeout + 30)

    async def create_snapshot(
        self, vm_id: str, name: str, request: str = "", generation: int | None = None, *, timeout: float = 600.0
    ) -> SnapshotFound:
        """`request`: its identity, the same in a retry. An agent of 0.2.0 gives any snapshot of that name."""
        answer = await self._send("PUT", _of(self._snapshot(vm_id, name), generation, request), timeout=timeout)
        return SnapshotFound.model_validate_json(answer.content)

    async def restore_snapshot(
        self, vm_id: str, name: str, generation: int | None = None, request: str = "", *, timeout: float = 600.0
    ) -> VmStatus:
        """`request`: as above. An earlier agent ignores it, and refuses a repeated restore of a VM that has resumed."""
        path = _of(f"{self._snapshot(vm_id, name)}/restore", generation, request)
        return _status(await self._send("POST", path, timeout=timeout))

    async def delete_snapshot(self, vm_id: str, name: str, generation: int | None = None) -> None:
        await self._send("DELETE", _of(self._snapshot(vm_id, name), generation), timeout=self._timeout + 30)

    async def delete_volume(self, name: str) -> None:
        """Delete a kept volume and its data."""
        await self._send("DELETE", f"/agent/v1/volumes/{quote(name, safe='')}", timeout=self._timeout + 30)

    async def delete_tap(self, name: str) -> None:
        await self._send("DELETE", f"/agent/v1/taps/{quote(name, safe='')}")

    # --- console
    def console_url(self, vm_id: str) -> str:
        """Return the WebSocket address of a VM's console. `console_options` has the rest."""
        return "ws" + self.base_url.removeprefix("http") + f"{self._vm(vm_id)}/console"

    def exec_url(self, vm_id: str) -> str:
        """Return the WebSocket address of a session in a VM's guest: `contract.guest` has its messages."""
        return "ws" + self.base_url.removeprefix("http") + f"{self._vm(vm_id)}/exec"

    async def console_options(self) -> dict[str, Any]:
        """Return what `websockets.connect` needs besides the address: credentials, TLS, and for a name a connected socket. One in
        plain text on loopback is connected to a trusted listener. Raises loopback.Impostor, OSError, asyncio.TimeoutError."""
        options: dict[str, Any] = {
            "additional_headers": {"Authorization": f"Bearer {self._token}"},
            "create_connection": AgentSocket,
        }
        if self._tls is not None:
            options |= {"ssl": self._tls.context, "server_hostname": self._tls.name}
        connected = None if self._tls else await asyncio.to_thread(loopback.connect, self.base_url, self._timeout)
        address = httpx.URL(self.base_url)
        if connected is None and not is_address(address.host):
            port = address.port or (443 if self._tls else 80)
            connected = await self.lookups.connect(address.host, port, self._timeout)
        return options if connected is None else options | {"sock": connected}

    @asynccontextmanager
    async def connect_console(self, vm_id: str) -> AsyncIterator[ClientConnection]:
        """Yield an open console: send and receive bytes. Leaving detaches. Raises AgentUnreachable, AgentRefused."""
        url = self.console_url(vm_id)
        try:
            connection = await connect(
                url, **await self.console_options(), open_timeout=self._timeout, proxy=None, compression=None
            )
        except InvalidStatus as error:
            raise _refusal(error.response.status_code, bytes(error.response.body or b"")) from error
        except (OSError, WebSocketException, TimeoutError, asyncio.TimeoutError) as error:
            raise AgentUnreachable(url, str(error) or type(error).__name__) from error
        try:
            yield connection
        finally:
            await connection.close()

    # --- how
    def _vm(self, vm_id: str) -> str:
        return f"/agent/v1/vms/{quote(vm_id, safe='')}"

    def _snapshot(self, vm_id: str, name: str) -> str:
        return f"{self._vm(vm_id)}/snapshots/{quote(name, safe='')}"

    async def _send(
        self, method: str, path: str, body: Any = None, timeout: float | None = None, largest: int = _AT_ONCE
    ) -> httpx.Response:
        limit = httpx.USE_CLIENT_DEFAULT if timeout is None else httpx.Timeout(timeout, connect=min(timeout, 5.0))
        self._running += 1
        try:
            whole = self._whole(self._http.build_request(method, path, json=body, timeout=limit), largest)
            answer = await asyncio.wait_for(whole, (timeout or self._timeout) + _READING)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, asyncio.TimeoutError, TimeoutError) as error:
            raise AgentUnreachable(self.base_url, str(error) or type(error).__name__) from error
        finally:
            self._running -= 1
            if self._retired:
                await self.retire()
        if answer.status_code >= 300:
            raise _refusal(answer.status_code, answer.content)
        return answer

    async def _whole(self, request: httpx.Request, largest: int) -> httpx.Response:
        """Return the whole answer. A host that somebody took over must not fill the manager's memory. Raises AgentUnreachable,
        httpx.HTTPError."""
        answer, content = await self._http.send(request, stream=True), bytearray()
        try:
            if "content-encoding" in answer.headers:
                raise AgentUnreachable(self.base_url, "its answer is compressed")
            async for piece in answer.aiter_bytes():
                content += piece
                if len(content) > largest:
                    raise AgentUnreachable(self.base_url, f"its answer is longer than {largest >> 10} KiB")
        finally:
            await answer.aclose()
        return httpx.Response(answer.status_code, content=bytes(content), request=request, extensions=answer.extensions)


def _long_inventory(content: bytes) -> Inventory:
    """Parse in a thread. pydantic lets no other thread run meanwhile, so each entry is a call of its own. Raises ValueError."""
    if content.count(b"[") + content.count(b"{") > _MOST_PARTS or content.count(b",") > _MOST_VALUES:
        raise ValueError("it has too many parts")
    found = from_json(content)
    if isinstance(found, dict):
        for name, model in _ENTRIES.items():
            if isinstance(found.get(name), list):
                found[name] = [model.model_validate(one) for one in found[name]]
    return Inventory.model_validate(found)


def _of(path: str, generation: int | None, request: str = "") -> str:
    told = {"generation": generation, "request": request or None}
    query = urlencode({name: value for name, value in told.items() if value is not None})
    return f"{path}?{query}" if query else path


def _status(answer: httpx.Response) -> VmStatus:
    return VmStatus.model_validate_json(answer.content)


def _refusal(status: int, body: bytes) -> AgentRefused:
    try:
        found = Problem.model_validate_json(body[:_LONGEST_PROBLEM])
    except ValidationError:
        found = Problem(title=f"HTTP {status}", status=status, detail=body[:200].decode(errors="replace"))
    text = {name: shown(getattr(found, name)) for name in ("title", "detail", "code", "cure")}
    return AgentRefused(status, Problem(status=status, **text))
