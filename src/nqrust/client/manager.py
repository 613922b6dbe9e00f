"""Clients of the manager's API: `ManagerClient` (synchronous) and `AsyncManagerClient`.

    with ManagerClient("http://127.0.0.1:18080", token=token) as manager:
        vm = manager.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
        vm = manager.wait_for(vm.name, "guest_up", timeout=60)

`send` raises Unreachable when nobody answers and Refused when the manager refuses. Timeouts are in seconds.
`wait_for` polls until a condition holds, and returns the VM as it then is (None for `deleted`). `waiting.Waiting`
has its rules and its errors.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from nqrust.client import calls
from nqrust.client.call import Call, answer, request_arguments
from nqrust.client.errors import ClientError, Refused, Unreachable, WaitFailed, WaitTimeout
from nqrust.client.waiting import Condition, Waiting
from nqrust.tls import contexts
from nqrust.tls.transports import guard

if TYPE_CHECKING:
    from nqrust.contract.auth import Session
    from nqrust.contract.templates import TemplateList
    from nqrust.contract.vms import Vm

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


class ManagerClient:
    """Synchronous client. `timeout`: seconds per call; `transport`: for tests (httpx transports); `authority`: the
    installation's certificate authority (PEM), which an https address must prove; None: those that the system trusts."""

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        authority: str | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._http = httpx.Client(**_arguments(self.base_url, token, timeout, authority), transport=transport)
        guard(self._http)

    def __enter__(self) -> ManagerClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def use_token(self, token: str) -> None:
        """Authenticate with `token` from now on."""
        self._http.headers["Authorization"] = f"Bearer {token}"

    def login(self, username: str, password: str) -> Session:
        """Sign in, and use the session's token from now on."""
        session = self.send(calls.login(username, password))
        self.use_token(session.token)
        return session

    def send(self, call: Call[T]) -> T:
        """Return the answer to `call`. Raises Unreachable, Refused."""
        try:
            response = self._http.request(**request_arguments(call))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(self.base_url, str(error) or type(error).__name__) from error
        return answer(call, response)

    def all_templates(self) -> TemplateList:
        """Return the templates of all pages. A manager of 0.2.0 answers with one."""
        found = self.send(calls.list_templates())
        while len(found.items) < found.total:
            page = self.send(calls.list_templates(offset=len(found.items)))
            if not page.items:
                break
            found.items += page.items
        return found

    def wait_for(self, vm: str, condition: Condition, timeout: float = 120.0, since: int = 0, steady: float = 0.0) -> Vm | None:
        wait = Waiting(vm, condition, timeout, since, steady)
        while not wait.done:
            try:
                wait.answered(self.send(calls.get_vm(vm, fresh=wait.fresh)))
            except ClientError as error:
                wait.failed(error)
            time.sleep(wait.pause)
        return wait.result


class AsyncManagerClient:
    """Asynchronous client. `timeout`: seconds per call; `transport`: for tests (httpx transports); `authority`: the
    installation's certificate authority (PEM), which an https address must prove; None: those that the system trusts.

    `headers`: for every request, WebSockets included.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        timeout: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
        headers: Mapping[str, str] | None = None,
        authority: str | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.headers = dict(headers or {})
        self._http = httpx.AsyncClient(**_arguments(self.base_url, token, timeout, authority), transport=transport)
        guard(self._http)
        self._http.headers.update(self.headers)

    async def __aenter__(self) -> AsyncManagerClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    def use_token(self, token: str) -> None:
        """Authenticate with `token` from now on."""
        self._http.headers["Authorization"] = f"Bearer {token}"

    async def login(self, username: str, password: str) -> Session:
        """Sign in, and use the session's token from now on."""
        session = await self.send(calls.login(username, password))
        self.use_token(session.token)
        return session

    async def send(self, call: Call[T]) -> T:
        """Return the answer to `call`. Raises Unreachable, Refused."""
        try:
            response = await self._http.request(**request_arguments(call))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(self.base_url, str(error) or type(error).__name__) from error
        return answer(call, response)

    async def all_templates(self) -> TemplateList:
        """Return the templates of all pages. A manager of 0.2.0 answers with one."""
        found = await self.send(calls.list_templates())
        while len(found.items) < found.total:
            page = await self.send(calls.list_templates(offset=len(found.items)))
            if not page.items:
                break
            found.items += page.items
        return found

    async def wait_for(
        self, vm: str, condition: Condition, timeout: float = 120.0, since: int = 0, steady: float = 0.0
    ) -> Vm | None:
        import asyncio  # the command line needs none

        wait = Waiting(vm, condition, timeout, since, steady)
        while not wait.done:
            try:
                wait.answered(await self.send(calls.get_vm(vm, fresh=wait.fresh)))
            except ClientError as error:
                wait.failed(error)
            await asyncio.sleep(wait.pause)
        return wait.result


def _arguments(base_url: str, token: str | None, timeout: float, authority: str | None) -> Mapping[str, Any]:
    """Return the arguments for both httpx clients. The environment's proxies are for the internet, not for this API."""
    headers = {"Accept": "application/json", "User-Agent": "nqrust-client"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    arguments: dict[str, Any] = {"base_url": base_url, "headers": headers, "timeout": timeout, "trust_env": False}
    if authority is not None:
        arguments["verify"] = contexts.client(authority)
    elif not base_url.lower().startswith("https:"):
        arguments["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, so it reads no list of authorities
    return arguments
