"""The agent's API against slow and greedy clients, on its real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request

from nqrust.agent.api import auth, listeners
from nqrust.agent.api.auth import Authentication
from nqrust.agent.api.listeners import Server, bind
from nqrust.contract.credentials import hash_token
from nqrust.serving import bodies
from nqrust.serving.connections import Bounds

TOKEN = {"Authorization": "Bearer command"}
HEAD = b"PUT /agent/v1/vms/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer command\r\n"


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(listeners, "BOUNDS", Bounds(local=40))
    app = FastAPI(openapi_url="/agent/v1/openapi.json", docs_url=None, redoc_url=None)

    @app.put("/agent/v1/vms/x")
    async def put(request: Request) -> int:
        return len(await request.body())

    app.add_middleware(Authentication, command_hashes=lambda: (hash_token("command"),), local_hash=hash_token("local"))
    listener = bind("127.0.0.1", 0)
    server = Server(app, [listener])
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    await serving


async def put(port: int, content: bytes = b"body") -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, headers=TOKEN) as client:
        return await client.put("/agent/v1/vms/x", content=content)


@pytest.mark.parametrize("data", [b"", HEAD, HEAD + b"Content-Length: 100\r\n\r\nx"], ids=["nothing", "headers", "bodies"])
async def test_hundreds_of_slow_connections_keep_the_manager_in(port: int, data: bytes) -> None:
    slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
    for _, writer in slow:
        if not writer.is_closing():
            writer.write(data)
    for _ in range(5):
        assert (await put(port)).json() == 4
    for _, writer in slow:
        writer.close()


async def test_a_body_beyond_one_mib_is_refused(port: int) -> None:
    assert (await put(port, b"x" * auth.LARGEST)).json() == auth.LARGEST
    answer = await put(port, b"x" * (auth.LARGEST + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "NQR-API-706")


async def test_a_body_that_trickles_is_refused(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read = bodies.read
    monkeypatch.setattr(auth.bodies, "read", lambda receive, limit: read(receive, limit, 0.3))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HEAD + b"Content-Length: 100\r\n\r\nx")
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_the_description_of_the_api_needs_a_token(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        assert (await client.get("/agent/v1/openapi.json")).status_code == 401
        assert (await client.get("/agent/v1/openapi.json", headers=TOKEN)).status_code == 200
        for path in ("/docs", "/redoc", "/openapi.json"):
            assert (await client.get(path, headers=TOKEN)).status_code == 404
