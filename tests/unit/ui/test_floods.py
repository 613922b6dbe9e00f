"""One browser that sends without end keeps the web UI from nobody else."""

from __future__ import annotations

import asyncio
import re

import httpx
from tests.unit.ui.browsers import opened, sign_in, web_ui

from nqrust.ui import session

SLOW = 0.05
"""Seconds for a password, as in the manager, which checks those of a source one by one."""


async def test_a_flood_of_sign_ins_keeps_no_other_user_waiting() -> None:
    turn, asked = asyncio.Lock(), []

    async def manager(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            while (line := await reader.readline()) not in (b"\r\n", b""):
                head += line
            length = re.search(rb"(?i)content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            asked.append(body)
            if b"honest" not in body:
                async with turn:
                    await asyncio.sleep(SLOW)
            said = b'{"title": "wrong", "status": 401, "detail": "wrong", "code": "NQR-API-110", "cure": ""}'
            kind = b"content-type: application/problem+json\r\n"
            writer.write(b"HTTP/1.1 401 no\r\n" + kind + b"content-length: %d\r\n\r\n" % len(said) + said)
        writer.close()

    server = await asyncio.start_server(manager, "127.0.0.1", 0)
    with web_ui(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as (port, _):
        async with httpx.AsyncClient(timeout=30) as hostile, opened(port, hostile) as flooded:

            async def flood() -> None:
                while True:
                    await sign_in(flooded, "viewer", "x")

            async def read() -> None:
                async for _ in flooded.socket:
                    pass

            running = [asyncio.create_task(flood()), asyncio.create_task(read())]
            await asyncio.sleep(4)
            assert len(asked) > 10
            proxied = {"X-Forwarded-For": "192.0.2.2"}
            async with httpx.AsyncClient(timeout=30, headers=proxied) as client, opened(port, client) as page:
                await sign_in(page, "honest", "honest")
                await page.until("Wrong user name or password", 8)
            for task in running:
                task.cancel()
    server.close()


async def test_many_pages_of_one_user_keep_nobody_else_waiting() -> None:
    """The web UI has 50 connections to the manager, and a user could open 200 pages that each ask for something."""
    now, most = {"one": 0, "two": 0, "": 0}, {"one": 0, "two": 0, "": 0}

    async def manager(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            while (line := await reader.readline()) not in (b"\r\n", b""):
                head += line
            found = re.search(rb"(?i)authorization: Bearer (\w+)", head)
            sender = found[1].decode() if found else ""
            now[sender] += 1
            most[sender] = max(most[sender], now[sender])
            await asyncio.sleep(0.05)
            now[sender] -= 1
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(manager, "127.0.0.1", 0)
    transport, url = session.Shared(), f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

    async def ask(token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = await transport.handle_async_request(httpx.Request("GET", url, headers=headers))
        await answer.aclose()

    pages = [asyncio.create_task(ask("one")) for _ in range(200)]
    sign_ins = [asyncio.create_task(ask("")) for _ in range(100)]
    await asyncio.sleep(0.02)
    await asyncio.wait_for(ask("two"), 5)
    assert sum(page.done() for page in (*pages, *sign_ins)) < 150, "it did not wait for all of them"
    await asyncio.gather(*pages, *sign_ins)
    assert 1 < most["one"] <= session.OF_A_SESSION and 1 < most[""] <= session.OF_SIGN_INS
    assert session.OF_A_SESSION + session.OF_SIGN_INS < session.CONNECTIONS
    await transport.aclose()
    server.close()
