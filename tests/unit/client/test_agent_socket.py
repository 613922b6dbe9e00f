"""A WebSocket to a host that somebody took over: its small frames wait, and the manager has other things to do meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.client import ClientProtocol
from websockets.frames import Frame

from nqrust.client.agent import AgentClient, AgentUnreachable
from nqrust.client.agent_socket import SMALL_AT_ONCE

PING = b"\x89\x00"


@asynccontextmanager
async def agent(raw: bytes = b"", messages: int = 0, size: int = 0) -> AsyncIterator[str]:
    """Sends what a host may send once a console is open."""

    async def one(socket: ServerConnection) -> None:
        if raw:
            socket.transport.write(raw)
        for number in range(messages):
            await socket.send(number.to_bytes(4, "big") * (size // 4))
        if messages:
            await socket.close(1000, "the end")
        else:
            await socket.wait_closed()

    async with serve(one, "127.0.0.1", 0, compression=None) as server:
        yield f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def test_small_frames_without_end_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, take = 0, ClientProtocol.recv_frame

    def counted(protocol: ClientProtocol, frame: Frame) -> None:
        nonlocal taken
        taken += 1
        take(protocol, frame)

    monkeypatch.setattr(ClientProtocol, "recv_frame", counted)
    async with agent(PING * 100_000) as url, AgentClient(url, "token") as client, client.connect_console("vm"):
        await asyncio.sleep(1)
        assert SMALL_AT_ONCE <= taken < SMALL_AT_ONCE + 6_000


@pytest.mark.parametrize(("messages", "size"), [(6_000, 4), (600, 16 << 10)], ids=["small", "of a usual size"])
async def test_all_messages_arrive_in_order_before_the_end(messages: int, size: int) -> None:
    async with (
        agent(messages=messages, size=size) as url,
        AgentClient(url, "token") as client,
        client.connect_console("vm") as console,
    ):
        got = [int.from_bytes(bytes(message)[:4], "big") async for message in console if isinstance(message, bytes)]
        assert got == list(range(messages))
        assert (console.close_code, console.close_reason) == (1000, "the end")


async def test_an_answer_in_crumbs_is_left() -> None:
    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 100_000)
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    async with await asyncio.start_server(one, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with AgentClient(url, "token", timeout=1) as client:
            with pytest.raises(AgentUnreachable):
                async with client.connect_console("vm"):
                    pass
