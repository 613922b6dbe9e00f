"""The manager's server against slow and greedy clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from tests.live.manager.test_console import echo, running_vm  # noqa: F401 - a fixture
from websockets.asyncio.client import connect

from nqrust.client import calls
from nqrust.manager.api import gate, server
from nqrust.serving import bodies
from nqrust.serving.connections import Bounds

HEAD = b"POST /v1/auth/login HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\n"


@pytest.fixture()
async def port(manager: Any) -> AsyncIterator[int]:
    """Of the manager with the settings of its real server, but room for 40 connections of this machine."""
    running = uvicorn.Server(server.config(manager.app, "127.0.0.1", 0, Bounds(local=40), lifespan="off"))
    task = asyncio.create_task(running.serve())
    while not running.started:
        await asyncio.sleep(0.01)
    yield running.servers[0].sockets[0].getsockname()[1]
    running.should_exit = True
    await task


async def opened(port: int, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    return reader, writer


def http(port: int, manager: Any) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {manager.admin_token}"}
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=20)


@pytest.mark.parametrize("data", [b"", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{"], ids=["nothing", "headers", "bodies"])
async def test_hundreds_of_slow_strangers_keep_no_client_out(manager: Any, port: int, data: bytes) -> None:
    slow = [await opened(port, data) for _ in range(300)]
    for _ in range(5):
        async with http(port, manager) as client:
            assert (await client.get("/v1/vms")).status_code == 200
            assert (await client.post("/v1/images/scan")).status_code == 200
    for _, writer in slow:
        writer.close()


async def test_slow_strangers_close_no_console(manager: Any, port: int, echo: Any) -> None:  # noqa: F811
    await running_vm(manager, echo[0])
    ticket = await manager.admin.send(calls.console_ticket("web1"))
    async with connect(f"ws://127.0.0.1:{port}{ticket.path}?ticket={ticket.ticket}", proxy=None) as socket:
        assert await socket.recv() == b"login: "
        slow = [await opened(port, HEAD) for _ in range(100)]
        await socket.send(b"still here")
        assert await asyncio.wait_for(socket.recv(), 10) == b"still here"
        for _, writer in slow:
            writer.close()


async def test_a_body_that_trickles_is_told_so(manager: Any, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate.bodies, "read", lambda receive, limit: read(receive, limit, 0.5))
    reader, writer = await opened(port, HEAD + b"Content-Length: 100\r\n\r\n{")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 408 ") and b"NQR-API-145" in await reader.read(1000)
    writer.close()


read = bodies.read


async def test_a_body_without_a_length_is_refused(manager: Any, port: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * 1000

    async with http(port, manager) as client:
        answer = await client.post("/v1/vms", content=pieces())
    assert (answer.status_code, answer.json()["code"]) == (411, "NQR-API-180")


async def test_a_large_header_is_refused(manager: Any, port: int) -> None:
    async with http(port, manager) as client:
        assert (await client.get("/v1/vms", headers={"X-Large": "x" * 40_000})).status_code == 400
