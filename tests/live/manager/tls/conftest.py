"""A manager over TLS and its agents, with real sockets: 127.0.0.1 is this machine, 127.0.0.2 its address on a network."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp
from tests.live.manager.conftest import Running, host_body

from nqrust.agent.link import manager_link
from nqrust.agent.link.credentials import Credentials, CredentialStore
from nqrust.agent.link.manager_link import ManagerLink
from nqrust.client import calls
from nqrust.contract.credentials import hash_token
from nqrust.contract.hosts import Heartbeat, HostRegister
from nqrust.host.local import LocalHost
from nqrust.manager.api import channel
from nqrust.manager.core.trust import Trust
from nqrust.manager.settings import TlsFiles
from nqrust.manager.store.tables import Host
from nqrust.serving import plain
from nqrust.serving.connections import Bounds
from nqrust.serving.plain import Plain
from nqrust.serving.protocol import bounded
from nqrust.serving.server import Context, Server
from nqrust.tls import authority

ELSEWHERE = "127.0.0.2"


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "is_loopback", lambda address: address in ("127.0.0.1", "localhost", "manager"))
    monkeypatch.setattr(manager_link, "_FIRST", 0.05)


def authority_files(folder: Path, name: str) -> TlsFiles:
    pair = authority.new_authority(name)
    files = TlsFiles(str(folder / f"{name}.crt"), str(folder / f"{name}.key"), ui=str(folder / f"{name}-ui.pem"))
    Path(files.authority).write_text(pair.certificate)
    Path(files.authority_key).write_text(pair.key)
    return files


@contextlib.asynccontextmanager
async def serve(app: ASGIApp, context: Context) -> AsyncIterator[int]:
    """Serve on one port of both addresses."""
    for _ in range(20):
        first = socket.create_server(("127.0.0.1", 0))
        try:
            listeners = [first, socket.create_server((ELSEWHERE, first.getsockname()[1]))]
            break
        except OSError:
            first.close()
    config = uvicorn.Config(
        app, http=bounded(Bounds()), ws="websockets-sansio", lifespan="off", log_config=None, timeout_graceful_shutdown=1
    )
    server = Server(config, listeners, context)
    running = asyncio.create_task(server.serve())
    try:
        yield listeners[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


class Secured:
    """A manager with an authority, at `port`."""

    def __init__(self, running: Running, trust: Trust, port: int) -> None:
        self.running, self.trust, self.port = running, trust, port
        self.base = f"http://{ELSEWHERE}:{port}"

    async def join_token(self, name: str, replace: bool = False) -> str:
        return str((await self.running.admin.send(calls.join_token(name, 600, replace))).token)

    async def host(self, host_id: str) -> Host:
        async with self.running.core.db.transaction() as session:
            found = await session.get(Host, host_id)
        assert found is not None
        return found

    async def old_host(self) -> Credentials:
        """A host that was registered before there was an authority."""
        trust, self.running.core.trust = self.running.core.trust, None
        joined = await self.running.client(await self.join_token("old")).send(calls.register(host_body("old")))
        self.running.core.trust = trust
        return Credentials(
            host_id=joined.host_id,
            manager=self.base,
            agent_token=joined.agent_token,
            command_token_sha256=hash_token(joined.command_token),
            heartbeat_seconds=1,
        )

    async def ask(
        self, method: str, path: str, token: str, *, tls: ssl.SSLContext | None = None, body: Any = None
    ) -> httpx.Response:
        scheme = "https" if tls else "http"
        async with httpx.AsyncClient(verify=tls or True, trust_env=False, timeout=60) as client:
            url = f"{scheme}://{ELSEWHERE}:{self.port}{path}"
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            return await client.request(method, url, headers=headers, json=body)


@pytest.fixture
async def secured(manager: Running, tmp_path: Path) -> AsyncIterator[Secured]:
    trust = Trust(authority_files(tmp_path, "ca"))
    manager.core.trust = trust
    app = Plain(manager.app, allowed=channel.may_be_plain, refuse=channel.refuse)
    async with serve(app, trust.context) as port:
        yield Secured(manager, trust, port)


class Agent:
    """The agent's side of the link, with its files in `folder`."""

    def __init__(self, folder: Path, base: str, token: str = "", known: Credentials | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.host = LocalHost()
        (folder / "join").write_text(token + "\n")
        self.store = CredentialStore(self.host, str(folder / "credentials.json"))
        if known is not None:
            self.store.save(known)
        self.link = ManagerLink(self.host, base, self.store, str(folder / "join"), self.describe, self.beat)
        self.link._beat_with = self._counted(self.link._beat_with)  # type: ignore[method-assign]
        self.beats = 0
        self.name = folder.name

    def describe(self) -> HostRegister:
        return host_body(self.name, url="http://192.0.2.9:19090")

    def beat(self) -> Heartbeat:
        return Heartbeat(version="0.2.0", boot_id="boot-1", capacity=host_body().capacity)

    @property
    def known(self) -> Credentials:
        assert self.store.current is not None
        return self.store.current

    def _counted(self, send: Callable[[Credentials, Heartbeat], Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
        async def beat(current: Credentials, body: Heartbeat) -> bool:
            found = await send(current, body)
            self.beats += 1
            return found

        return beat

    @contextlib.asynccontextmanager
    async def running(self, seconds: float = 0.0) -> AsyncIterator[None]:
        """While it runs, once its first heartbeat is answered: one under way would be stored after a test has changed the host.
        `seconds`: it will not be registered, and that is how long to look."""
        task = asyncio.create_task(self.link.run())
        try:
            for _ in range(int(seconds / 0.05) or 400):
                if self.link.registered and self.beats:
                    break
                await asyncio.sleep(0.05)
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.link.channel.close()


@pytest.fixture
async def joined(secured: Secured, tmp_path: Path) -> Agent:
    agent = Agent(tmp_path / "kvm1", secured.base, await secured.join_token("kvm1"))
    async with agent.running():
        assert agent.link.registered
    return agent
