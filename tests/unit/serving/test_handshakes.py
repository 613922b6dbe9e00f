"""A client that makes one TLS connection after the other keeps the server from nobody else."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from nqrust.serving import server
from nqrust.serving.connections import Bounds
from nqrust.serving.protocol import bounded
from nqrust.tls import authority, contexts


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def served() -> AsyncIterator[tuple[int, server.Server]]:
    pair = authority.Authority(authority.new_authority("a test")).issue(["localhost"])
    context = contexts.server(pair.certificate, pair.key)
    listeners = server.listen("127.0.0.1", 0)
    config = uvicorn.Config(application, lifespan="off", log_config=None, http=bounded(Bounds()))
    running = server.Server(config, listeners, lambda: context)
    task = asyncio.create_task(running.serve())
    while not running.started:
        await asyncio.sleep(0.01)
    yield listeners[0].getsockname()[1], running
    running.should_exit = True
    await task


async def shake_hands(port: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.close()


async def test_handshakes_of_a_source_come_at_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDSHAKES", 3)
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 0.5)
    async with served() as (port, _):
        began = time.monotonic()
        for _ in range(3):
            await shake_hands(port)
        late = asyncio.gather(*(shake_hands(port) for _ in range(4)))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 204 ") and not late.done(), "plain HTTP has no handshake"
        writer.close()
        await late
        assert time.monotonic() - began >= 1.4


async def test_a_flood_leaves_no_long_wait_behind() -> None:
    async with served() as (_, running):
        door: Any = running.servers[0]
        waits = [door._turns.wait("192.0.2.1") for _ in range(5_000)]
        assert waits[0] == 0 and waits[-1] is None
        turns = [wait for wait in waits if wait is not None]
        assert server.HANDSHAKES < len(turns) < server.HANDSHAKES + server.IN_TURN + 50
        assert max(turns) <= server.IN_TURN * server.HANDSHAKE_SECONDS < 3, "an agent waits so long for a connection"
        assert door._turns.wait("192.0.2.2") == 0, "other sources do not wait"


async def test_silent_clients_take_no_place_of_one_that_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDSHAKES", 1)
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 1.0)
    monkeypatch.setattr(server, "WAITING_PER_SOURCE", 5)
    async with served() as (port, running):
        await shake_hands(port)
        late = asyncio.create_task(shake_hands(port))
        await asyncio.sleep(0.3)
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
        await asyncio.wait_for(late, 5)
        door: Any = running.servers[0]
        assert len(door._begun) <= 5 and not door._asleep_now
        for _, writer in silent:
            writer.close()


async def test_connections_of_many_sources_that_wait_use_up_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDSHAKES", 1)
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 1.0)
    monkeypatch.setattr(server, "ALL_IN_TURN", 2)
    sources = iter(f"192.0.2.{number // 2}" for number in range(100))
    monkeypatch.setattr(server, "_source", lambda connection, address: next(sources))
    async with served() as (port, running):
        door: Any = running.servers[0]
        began = [asyncio.create_task(shake_hands(port)) for _ in range(10)]  # two of each source: one at once, one that waits
        done, waiting = await asyncio.wait(began, timeout=0.5)
        assert len(waiting) == len(door._asleep_now) == 2
        assert sum(task.exception() is None for task in done) == 5, "the first of each source"
        await asyncio.gather(*waiting)


async def test_fifty_commands_at_a_time_wait_and_do_not_fail() -> None:
    async with served() as (port, running):
        door: Any = running.servers[0]
        while not door._turns.wait("loopback 0") and not door._turns.wait(f"loopback {os.getuid()}"):
            pass  # the source has had its connections at once
        for _ in range(2):
            await asyncio.wait_for(asyncio.gather(*(shake_hands(port) for _ in range(50))), 20)
