"""Slow clients against a real server on loopback: trickled headers and bodies, and connections in the hundreds."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h11
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect

from nqrust.serving import bodies
from nqrust.serving.connections import Bounds
from nqrust.serving.measured import LINES
from nqrust.serving.protocol import HEADER_BYTES, bounded
from nqrust.serving.websocket import BoundedWebSocket

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body. `/early` answers before it reads one, `/hang` never, `/big` with 8 MiB. A WebSocket gets its messages
    back, at `/late` after some seconds."""
    if scope["type"] == "websocket":
        if scope["path"] == "/late":
            await asyncio.sleep(3)
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
        return
    if scope["path"] == "/hang":
        await asyncio.sleep(60)
    fixed = {"/early": b"early", "/big": b"x" * (8 << 20)}.get(scope["path"])
    body = await bodies.read(receive, 1000, 60) if fixed is None else fixed
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving(**bounds: Any) -> AsyncIterator[int]:
    config = uvicorn.Config(
        echo, host="127.0.0.1", port=0, lifespan="off", log_config=None, access_log=False, timeout_keep_alive=60,
        http=bounded(Bounds(**bounds)), ws=BoundedWebSocket, h11_max_incomplete_event_size=HEADER_BYTES, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def opened(port: int, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    return reader, writer


async def answer(reader: asyncio.StreamReader, seconds: float = 5.0) -> bytes:
    """All that comes until the server closes; b"" if it just closes."""
    try:
        return await asyncio.wait_for(reader.read(), seconds)
    except ConnectionResetError:
        return b""


async def asked(port: int) -> bytes:
    reader, writer = await opened(port, GET)
    line = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    return line.strip()


async def trickle(writer: asyncio.StreamWriter, seconds: float) -> None:
    for _ in range(int(seconds / 0.1)):
        if writer.is_closing():
            return
        try:
            writer.write(b"x")
            await writer.drain()
        except ConnectionError:
            return
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nX: "], ids=["nothing", "a header"])
async def test_a_header_that_trickles_is_cut_off(start: bytes) -> None:
    async with serving(head=0.5) as port:
        reader, writer = await opened(port, start)
        task = asyncio.create_task(trickle(writer, 10)) if start else None
        assert (await answer(reader)).startswith(b"HTTP/1.1 408 ")
        if task:
            task.cancel()


async def test_the_second_header_of_a_connection_is_cut_off_too() -> None:
    async with serving(head=0.5) as port:
        reader, writer = await opened(port, GET)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(1.0)
        assert not reader.at_eof(), "an idle connection has uvicorn's own time"
        writer.write(b"GET / HTTP/1.1\r\nX: ")
        task = asyncio.create_task(trickle(writer, 10))
        assert b"HTTP/1.1 408 " in await answer(reader)
        task.cancel()


@pytest.mark.parametrize("path", [b"/", b"/early"])
async def test_a_body_that_trickles_is_cut_off(path: bytes) -> None:
    """Also after an answer that came before the body: that connection would stay for ever."""
    async with serving(head=5, body=0.5) as port:
        reader, writer = await opened(port, POST.replace(b" / ", b" " + path + b" "))
        task = asyncio.create_task(trickle(writer, 10))
        await answer(reader)
        task.cancel()


async def test_honest_requests_are_answered_one_after_another() -> None:
    async with serving(head=0.5, body=0.5) as port:
        reader, writer = await opened(port)
        for _ in range(8):
            writer.write(POST + b"x" * 100)
            assert b"200" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            await reader.readexactly(100)
            await asyncio.sleep(0.15)
        writer.write(GET + GET)
        for _ in range(2):
            assert b"200" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.close()


async def test_a_header_beyond_16_kib_is_refused() -> None:
    async with serving() as port:
        for end in (b"", b"\r\n\r\n"):
            reader, _ = await opened(port, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40_000 + end)
            assert (await answer(reader)).startswith(b"HTTP/1.1 400 ")
        reader, writer = await opened(port, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 12_000 + b"\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nX: ", POST], ids=["nothing", "headers", "bodies"])
async def test_hundreds_of_slow_connections_keep_nobody_out(start: bytes) -> None:
    """From the same source as the honest client, which is the hardest case. None of them has timed out yet."""
    async with serving(local=50, head=60, body=60) as port:
        slow = [await opened(port, start) for _ in range(300)]
        for _ in range(20):
            assert await asked(port) == b"HTTP/1.1 200 OK"
        closed = sum(reader.at_eof() or reader.exception() is not None for reader, _ in slow)
        assert closed >= 240
        for _, writer in slow:
            writer.close()


async def test_connections_at_work_fill_only_their_own_share() -> None:
    async with serving(local=5) as port:
        busy = [await opened(port, GET.replace(b" / ", b" /hang ")) for _ in range(5)]
        await asyncio.sleep(0.3)
        reader, _ = await opened(port, GET)
        refused = await answer(reader)
        assert refused.startswith(b"HTTP/1.1 503 ") and b"NQR-API-144" in refused
        busy[0][1].close()
        await asyncio.sleep(0.3)
        assert await asked(port) == b"HTTP/1.1 200 OK"
        for _, writer in busy:
            writer.close()


async def test_an_idle_websocket_stays_open_and_makes_no_room() -> None:
    """It was a request without an end for the bounds: a console closed 40 s after it had opened."""
    async with serving(local=2, head=0.2, body=0.3) as port:
        uri = f"ws://127.0.0.1:{port}/"
        async with connect(uri, proxy=None) as first, connect(uri, proxy=None) as second:
            await asyncio.sleep(1)
            reader, _ = await opened(port, GET)
            assert b"NQR-API-144" in await answer(reader)
            for socket in (first, second):
                await socket.send("still here")
                assert await asyncio.wait_for(socket.recv(), 5) == "still here"


class Deaf:
    """A client that reads nothing."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)

    async def says(self, data: bytes, seconds: float = 0.0) -> int:
        """Send `data`, for at most some seconds if the server stops to read. Returns the bytes that were taken."""
        sent, until = 0, time.monotonic() + seconds
        while sent < len(data):
            try:
                sent += self.socket.send(data[sent : sent + (1 << 16)])
                await asyncio.sleep(0)
            except BlockingIOError:
                if time.monotonic() > until:
                    break
                await asyncio.sleep(0.02)
        return sent

    async def closed(self) -> bool:
        """Whether the server has closed it. The kernel answers the first byte after that with a reset."""
        try:
            for _ in range(2):
                with contextlib.suppress(BlockingIOError):
                    self.socket.send(b"x")
                await asyncio.sleep(0.1)
        except OSError:
            return True
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


async def closed(clients: list[Deaf]) -> int:
    return sum(await asyncio.gather(*(one.closed() for one in clients)))


async def deaf(port: int, count: int, data: bytes) -> list[Deaf]:
    made = [Deaf(port) for _ in range(count)]
    for one in made:
        await one.says(data)
    await asyncio.sleep(0.5)
    return made


PIPELINED = GET.replace(b" / ", b" /big ") * 200
LAST = b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("requests", [PIPELINED, LAST], ids=["a request after the other", "the last request"])
async def test_clients_that_do_not_read_keep_nobody_out_and_are_disconnected(requests: bytes) -> None:
    async with serving(local=5, write=60) as port:
        first = await deaf(port, 12, requests)
        assert await closed(first) >= 7, "those beyond the limit"
        for _ in range(5):
            assert await asked(port) == b"HTTP/1.1 200 OK"
    async with serving(local=5, write=0.5) as port:
        second = await deaf(port, 5, requests)
        await asyncio.sleep(1.5)
        assert await closed(second) == 5


async def test_a_slow_reader_gets_everything() -> None:
    async with serving(write=1.0) as port:
        reader, writer = await opened(port, LAST)
        got = 0
        while piece := await asyncio.wait_for(reader.read(256 << 10), 5):
            got += len(piece)
            await asyncio.sleep(0.06)
        assert got > 8 << 20
        writer.close()


def _upgrade(path: str) -> bytes:
    key = base64.b64encode(bytes(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


PING = b"\x89\xfd" + bytes(4) + b"x" * 125


async def test_a_client_that_pings_and_does_not_read_is_disconnected() -> None:
    async with serving() as port:
        client = Deaf(port)
        await client.says(_upgrade("/"))
        await asyncio.sleep(0.3)
        with pytest.raises(OSError):
            await client.says(PING * (200_000), 5)
            await client.says(PING, 5)


async def test_messages_before_the_answer_to_a_websocket_stay_with_the_client() -> None:
    async with serving() as port:
        client = Deaf(port)
        await client.says(_upgrade("/late"))
        await asyncio.sleep(0.3)
        assert await client.says(PING * 400_000, 1) < len(PING) * 400_000


async def test_a_body_without_a_length_is_refused() -> None:
    """Whether much or little of it came with the header."""
    for chunks in (b"", b"2\r\nab\r\n0\r\n\r\n", b"1\r\n \r\n" * 40_000):
        async with serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
            answered = await answer(reader)
            writer.close()
        # What the server did not read makes the kernel reset the connection, and that can take the answer away.
        lost = not answered and len(chunks) > 1000
        assert lost or (answered.startswith(b"HTTP/1.1 411 ") and b"NQR-API-180" in answered), len(chunks)


CHUNKS = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 30_000


@pytest.mark.parametrize(
    "before", [GET, POST + b"x" * 100, POST.replace(b" / ", b" /early ") + b"x" * 100], ids=["header", "body", "answer first"]
)
async def test_chunks_behind_another_request_are_not_taken(before: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client sends ahead of the answer was parsed as a whole once that answer was there."""
    events = counted_events(monkeypatch)
    async with serving() as port:
        reader, writer = await opened(port, before)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(before + CHUNKS)
        await answer(reader)
        writer.close()
    assert events[0] < 400


async def test_a_header_of_many_lines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also behind another request, where a header of any length was taken."""
    many = GET[:-2] + b"a:\r\n" * 1000 + b"\r\n"
    long = GET[:-2] + b"a: " + b"x" * 50_000 + b"\r\n\r\n"
    async with serving() as port:
        for request in (many, GET + many, GET + long, POST + b"x" * 100 + long):
            reader, writer = await opened(port, request)
            assert b"HTTP/1.1 400 " in await answer(reader)
            writer.close()
        reader, writer = await opened(port, GET[:-2] + b"a:\r\n" * (LINES - 4) + b"\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()


def counted_events(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often h11 was asked for what comes next."""
    events, ask_h11 = [0], h11.Connection.next_event

    def counted(connection: h11.Connection) -> Any:
        events[0] += 1
        return ask_h11(connection)

    monkeypatch.setattr(h11.Connection, "next_event", counted)
    return events


SMALL_PING = b"\x89\x80" + bytes(4)
SMALL_MESSAGE = b"\x81\x81" + bytes(4) + b"a"
PART_OF_A_MESSAGE = b"\x00\x80" + bytes(4)


@pytest.mark.parametrize("frame", [SMALL_PING, SMALL_MESSAGE], ids=["pings", "messages"])
async def test_many_small_frames_of_a_websocket_wait(frame: bytes) -> None:
    """All that had arrived was taken at once: 40,000 of them held a server for 0.2 s, again and again."""
    async with serving() as port:
        reader, writer = await opened(port, _upgrade("/"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frame * 40_000)
        answers = bytearray()
        with contextlib.suppress(asyncio.TimeoutError):
            while True:
                answers += await asyncio.wait_for(reader.read(1 << 16), 0.5 if not answers else 0.2)
                if len(answers) > 20_000:
                    break
        assert 400 <= len(answers) < 20_000
        assert await asked(port) == b"HTTP/1.1 200 OK"
        writer.close()


async def test_what_waits_is_taken_later_and_in_order() -> None:
    async with serving() as port, connect(f"ws://127.0.0.1:{port}/", proxy=None) as client:
        for number in range(600):
            await client.send(str(number))
        assert [await asyncio.wait_for(client.recv(), 5) for _ in range(600)] == [str(number) for number in range(600)]
        long = "x" * (200 << 10)
        for _ in range(20):
            await client.send(long)
            assert await asyncio.wait_for(client.recv(), 5) == long


async def test_a_message_of_endless_parts_ends_the_websocket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty parts count for no length, and the server kept each."""
    monkeypatch.setattr("nqrust.serving.websocket.SMALL_AT_ONCE", 10_000)
    async with serving() as port:
        reader, writer = await opened(port, _upgrade("/"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x01\x80" + bytes(4) + PART_OF_A_MESSAGE * 1100)
        assert await answer(reader) == b""
        writer.close()
