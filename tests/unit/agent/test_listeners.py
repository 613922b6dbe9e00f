"""The guests' listener on a real socket: one guest cannot keep the others out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import h11
import pytest
from fastapi import FastAPI

from nqrust.agent.api import listeners, relay
from nqrust.agent.api.listeners import GuestProtocol, GuestServer, bind, bind_relay
from nqrust.agent.errors import SettingsError
from nqrust.agent.vms.guests import RateLimit
from nqrust.contract.names import RELAY_MARK

Address = tuple[str, int]


@pytest.fixture
async def address(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Address]:
    monkeypatch.setattr(listeners, "LIFETIME", 1.0)
    monkeypatch.setattr(GuestProtocol, "_new", RateLimit(listeners.CONNECTIONS_A_SECOND, listeners.CONNECTIONS_AT_ONCE))
    app = FastAPI()

    @app.get("/")
    async def root() -> str:
        return "hello"

    async with serving(app) as place:
        yield place


@asynccontextmanager
async def serving(app: FastAPI, listen: Callable[[str, int], socket.socket] = bind) -> AsyncIterator[Address]:
    listener = listen("127.0.0.1", 0)
    server = GuestServer(app)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    yield listener.getsockname()
    server.should_exit = True
    await task


async def ask(address: Address, source: str = "127.0.0.1") -> bytes:
    reader, writer = await asyncio.open_connection(*address, local_addr=(source, 0))
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mark a socket")
async def test_the_listener_of_guests_has_a_mark_and_their_connections_have_none() -> None:
    """By its mark, the host knows the answer that the kernel makes without a socket."""

    def mark(one: Any) -> int:
        return int(one.getsockopt(socket.SOL_SOCKET, socket.SO_MARK))

    listening = bind_relay("127.0.0.1", 0)
    assert mark(listening) == int(RELAY_MARK, 16)
    async with serving(FastAPI(), lambda *_: listening) as address:
        _, writer = await asyncio.open_connection(*address)
        await asyncio.sleep(0.1)
        (one,) = GuestProtocol._all
        assert mark(one.transport.get_extra_info("socket")) == 0
        writer.close()
        await asyncio.sleep(0.1)


async def test_a_source_has_few_connections_and_none_for_long(address: Address) -> None:
    held = [await asyncio.open_connection(*address) for _ in range(listeners.CONNECTIONS)]
    await asyncio.sleep(0.1)
    assert await ask(address) == b"", "this source has all it may have"
    assert b"hello" in await ask(address, "127.0.0.2"), "another is served"
    for reader, writer in held:
        writer.write(b"POST / HTTP/1.1\r\nX")  # and never the rest
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert b"hello" in await ask(address)
    await asyncio.sleep(0.1)
    assert not GuestProtocol._open


async def test_many_sources_together_keep_no_guest_out(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "ALL_CONNECTIONS", 8)
    held = [await asyncio.open_connection(*address, local_addr=(f"127.0.1.{n}", 0)) for n in range(1, 33)]
    assert b"hello" in await ask(address)
    await asyncio.sleep(0.1)
    assert len(GuestProtocol._all) == 7 and sum(GuestProtocol._open.values()) == 7
    for _, writer in held:
        writer.close()
    await asyncio.sleep(0.1)
    assert not GuestProtocol._all and not GuestProtocol._open


async def test_a_source_opens_few_connections_a_second(address: Address) -> None:
    answers = [await ask(address, "127.0.2.1") for _ in range(100)]
    assert 40 <= sum(map(bool, answers)) <= 90
    assert b"hello" in await ask(address, "127.0.2.2")


class Nobody:
    """Knows no VM."""

    def admits(self, vm_id: str, token: str) -> bool:
        return False


async def test_a_refused_report_is_the_last_of_its_connection() -> None:
    async def run(work: Callable[[], Any]) -> Any:
        return work()

    app = relay.build(cast(Any, Nobody()), run, lambda vm_id, report: None)
    async with serving(app) as place:
        reader, writer = await asyncio.open_connection(*place, local_addr=("127.0.3.1", 0))
        request = b"POST /v1/vms/x/guest-ip HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nContent-Length: 0\r\n\r\n"
        writer.write(request * 50)
        answered = await asyncio.wait_for(reader.read(), 5)
        assert answered.count(b"HTTP/1.1 401") == answered.count(b"HTTP/1.1") == 1
        writer.close()


async def test_what_is_no_http_makes_no_line_of_the_log(address: Address, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"\x00\xff nonsense\r\n\r\n")
        assert b"400" in await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert caplog.messages == []


def test_an_address_that_is_taken_is_told_with_its_cure() -> None:
    taken = bind("127.0.0.1", 0)
    with pytest.raises(SettingsError, match="NQR-CFG-702") as refused:
        bind("127.0.0.1", taken.getsockname()[1])
    assert "Address already in use" in refused.value.what
    taken.close()


async def test_answers_do_not_wait_for_the_acknowledgement_of_what_went_before() -> None:
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    class Peer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.set_result(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            assert isinstance(transport, asyncio.Transport)
            transport.close()

    listener = bind("127.0.0.1", 0)
    async with await asyncio.get_running_loop().create_server(Peer, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        assert await accepted == 1
        writer.close()


async def test_a_report_in_chunks_is_refused_and_hardly_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk of one byte takes as long as any other. 40 connections of a guest held the agent for half a minute."""
    events, ask_h11 = [0], h11.Connection.next_event

    def counted(connection: h11.Connection) -> Any:
        events[0] += 1
        return ask_h11(connection)

    async def run(work: Callable[[], Any]) -> Any:
        return work()

    monkeypatch.setattr(h11.Connection, "next_event", counted)
    app = relay.build(cast(Any, Nobody()), run, lambda vm_id, report: None)
    async with serving(app) as place:
        reader, writer = await asyncio.open_connection(*place, local_addr=("127.0.4.1", 0))
        writer.write(
            b"POST /v1/vms/x/guest-ip HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 40_000
        )
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP/1.1 200" not in await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert events[0] < 400
