"""Guests of a NAT network have the address of their host. A hostile one does not keep that host from its manager."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from tests.live.manager.conftest import ADMIN_TOKEN
from tests.live.manager.tls.conftest import ELSEWHERE, Agent, Secured

from nqrust.contract.credentials import hash_token, new_token
from nqrust.manager.api import channel
from nqrust.manager.core import callers
from nqrust.serving.connections import Bounds
from nqrust.serving.plain import Plain
from nqrust.serving.protocol import bounded
from nqrust.serving.server import Server, listen
from nqrust.tls import contexts

PLACES = 30
"""Connections of one source. The guest takes them all."""


@pytest.fixture
async def few_places(secured: Secured) -> AsyncIterator[Secured]:
    """The same manager on a port with fewer connections."""
    app = Plain(secured.running.app, allowed=channel.may_be_plain, refuse=channel.refuse)
    listeners = listen(ELSEWHERE, 0)[:1]
    config = uvicorn.Config(app, http=bounded(Bounds(local=PLACES)), lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = Server(config, listeners, secured.trust.context)
    running = asyncio.create_task(server.serve())
    yield Secured(secured.running, secured.trust, listeners[0].getsockname()[1])
    server.should_exit = True
    await running


@contextlib.asynccontextmanager
async def guest(port: int) -> AsyncIterator[None]:
    """Keeps all connections at work: the next request is there before the last one is answered."""

    async def keep_busy() -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(ELSEWHERE, port)
                try:
                    while True:
                        ask = f"GET /v1/hosts/h HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {new_token()}\r\n\r\n".encode()
                        writer.write(ask * 50)
                        await writer.drain()
                        if not await reader.read(65536):
                            break
                finally:
                    writer.close()
            await asyncio.sleep(0.5)

    tasks = [asyncio.create_task(keep_busy()) for _ in range(PLACES + 5)]
    try:
        await asyncio.sleep(2)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def little_for_strangers(monkeypatch: pytest.MonkeyPatch, secured: Secured) -> None:
    """As after the start of the manager: nobody is known yet. Few requests do here what many do elsewhere."""
    monkeypatch.setattr(callers, "AT_ONCE", 5)
    monkeypatch.setattr(callers, "SECONDS", 0.5)
    monkeypatch.setattr(callers, "WAITING", 20)
    secured.running.core.callers = callers.Callers()


async def beat(of: Secured, agent: Agent) -> httpx.Response:
    identity: Any = agent.known.identity
    tls = contexts.client(of.trust.trusted, identity.certificate, identity.key)
    tls.check_hostname = False
    body = agent.beat().model_dump(mode="json")
    return await of.ask("POST", f"/v1/hosts/{agent.known.host_id}/heartbeat", agent.known.agent_token, tls=tls, body=body)


async def test_a_guest_that_takes_all_connections_does_not_keep_its_host_out(
    few_places: Secured, joined: Agent, little_for_strangers: None
) -> None:
    async with guest(few_places.port):
        for _ in range(3):
            answer = await asyncio.wait_for(beat(few_places, joined), 10)
            assert answer.status_code == 200, answer.text


async def test_a_user_behind_the_address_of_strangers_gets_a_connection(few_places: Secured, little_for_strangers: None) -> None:
    tls = contexts.client(few_places.trust.trusted)
    tls.check_hostname = False
    few_places.running.core.callers.learn(hash_token(ADMIN_TOKEN))
    async with guest(few_places.port):
        for _ in range(3):
            answer = await asyncio.wait_for(few_places.ask("GET", "/v1/vms", ADMIN_TOKEN, tls=tls), 10)
            assert answer.status_code == 200, answer.text
