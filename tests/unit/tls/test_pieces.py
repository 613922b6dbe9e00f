"""Servers that send their answer in crumbs: they are left, and hold nothing else of the program."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import h11
import httpx
import pytest

from nqrust.client.agent import AgentClient, AgentUnreachable
from nqrust.manager.images import outgoing
from nqrust.tls import contexts, pinning
from nqrust.tls.pieces import SMALLEST

HEADER = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(say: Say) -> AsyncIterator[str]:
    """A server that reads a request and says its answer."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await say(reader, writer)
        except OSError:
            return  # the client has left
        finally:
            writer.close()

    async with await asyncio.start_server(one, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def server(chunk: int, size: int) -> AbstractAsyncContextManager[str]:
    """Sends `size` bytes in chunks."""
    piece = b"%x\r\n%b\r\n" % (chunk, b" " * chunk)

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEADER)
        for at in range(0, size, 4096 * chunk):
            writer.write(piece * min(4096, (size - at) // chunk))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    return answering(say)


async def test_crumbs_of_a_registry_or_of_an_images_server_end_the_download() -> None:
    async with server(1, 1 << 20) as url, await outgoing.client(url, outgoing.Way(local=True)) as http:
        with pytest.raises(httpx.ReadError, match="pieces of 1 bytes"):
            await http.get(url)


async def test_crumbs_of_a_host_end_its_answer_and_others_have_their_turn() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with server(1, 1 << 20) as url, AgentClient(url, "token") as client:
        busy = asyncio.create_task(others())
        with pytest.raises(AgentUnreachable, match="pieces of 1 bytes"):
            await client.inventory()
        busy.cancel()
    assert turns > 100, "one for each few pieces"


async def test_pieces_of_a_usual_size_pass() -> None:
    async with server(2 * SMALLEST, 4096 * SMALLEST) as url, await outgoing.client(url, outgoing.Way(local=True)) as http:
        assert len((await http.get(url)).content) == 4096 * SMALLEST


async def test_small_answers_pass_in_any_pieces() -> None:
    async with server(1, 1500) as url, await outgoing.client(url, outgoing.Way(local=True)) as http:
        assert len((await http.get(url)).content) == 1500


async def test_a_program_that_has_proven_nothing_cannot_hold_an_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinning, "secured", lambda base: base)
    monkeypatch.setattr(contexts, "unchecked", lambda: True)
    async with server(1, 1 << 16) as url:
        with pytest.raises(httpx.ReadError, match="pieces of 1 bytes"):
            await pinning.fetch(url, expected="00")


def talker(piece: bytes, end: bytes = b"") -> AbstractAsyncContextManager[str]:
    """Answers with 1 MiB of the same piece, or with one and an end."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(piece if end else piece * ((1 << 20) // len(piece)))
        writer.write(end)
        await writer.drain()
        await reader.read()

    return answering(say)


@pytest.mark.parametrize(
    "piece", [b"HTTP/1.1 103 \r\n\r\n", b"HTTP/1.1 103 \n\n", b"HTTP/1.1 200 \r\n" + b"a:\r\n" * 20_000 + b"\r\n"]
)
async def test_answers_before_the_answer_and_headers_of_many_lines_end_it(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    events, ask_h11 = 0, h11.Connection.next_event

    def counted(connection: h11.Connection) -> object:
        nonlocal events
        events += 1
        return ask_h11(connection)

    monkeypatch.setattr(h11.Connection, "next_event", counted)
    async with talker(piece) as url, AgentClient(url, "token", timeout=2) as client:
        with pytest.raises(AgentUnreachable, match=r"before its answer|header of more than"):
            await client.health()
    async with talker(piece) as url, await outgoing.client(url, outgoing.Way(local=True)) as http:
        with pytest.raises(httpx.ReadError, match=r"before its answer|header of more than"):
            await http.get(url)
    assert events < 100


async def test_some_answers_before_the_answer_are_passed_over() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 5
    answered = b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"a:\n\n" * 5000
    async with talker(interim, answered) as url, await outgoing.client(url, outgoing.Way(local=True)) as http:
        answer = await http.get(url)
    assert answer.status_code == 200 and answer.content == b"a:\n\n" * 5000
