"""A host whose name no name server knows holds up nobody else."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nqrust.client.agent import AgentClient, AgentUnreachable
from nqrust.client.lookups import Lookups
from nqrust.manager.core.agents import AgentAway
from nqrust.manager.hosts.agents import RemoteAgents

DEAD = ("dead.example", "gone.example")
THREADS = min(32, (os.cpu_count() or 1) + 4)
"""Threads of asyncio.to_thread."""


class Names:
    """The name servers: they answer for DEAD once `release` is set. `asked`: the names, in order."""

    def __init__(self) -> None:
        self.release, self.asked, self.own = threading.Event(), list[str](), {"good.example": ["127.0.0.1"]}

    def __call__(self, name: Any, port: Any, *arguments: Any, **named: Any) -> list[Any]:
        self.asked.append(name)
        if name in DEAD:
            self.release.wait(30)
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        found = self.own.get(name) or [name]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0)) for address in found]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names)
    yield names
    names.release.set()


async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    body = b'{"host_id":"h","boot_id":"b","time":"2026-01-01T00:00:00Z","vms":[],"taps":[],"volumes":[]}'
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
    await writer.drain()
    writer.close()


async def test_a_host_without_an_answer_from_dns_takes_no_threads(names: Names) -> None:
    agents = RemoteAgents()
    asks = [asyncio.create_task(agents.at(f"http://{DEAD[n % 2]}:1", "t", host_id="h").inventory()) for n in range(THREADS + 4)]
    await asyncio.sleep(0.2)
    assert names.asked == [DEAD[0]], "one lookup at a time for a host"
    assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 2) == 1
    async with await asyncio.start_server(one, "127.0.0.1", 0) as server:
        other = agents.at(f"http://good.example:{server.sockets[0].getsockname()[1]}", "t", host_id="g")
        assert (await asyncio.wait_for(other.inventory(), 2)).host_id == "h"
    names.release.set()
    assert all(isinstance(end, AgentAway) for end in await asyncio.gather(*asks, return_exceptions=True))
    await agents.close()


async def test_a_console_of_such_a_host_takes_no_threads(names: Names) -> None:
    async with AgentClient(f"http://{DEAD[0]}:1", "t", timeout=0.5) as client:
        opens = [asyncio.create_task(client.connect_console("v").__aenter__()) for _ in range(THREADS)]
        assert all(isinstance(end, AgentUnreachable) for end in await asyncio.gather(*opens, return_exceptions=True))
    assert names.asked == [DEAD[0]]


async def test_a_name_that_is_not_found_in_time_is_an_agent_that_does_not_answer(names: Names) -> None:
    async with AgentClient(f"http://{DEAD[0]}:1", "t", timeout=0.2) as client:
        began = time.monotonic()
        with pytest.raises(AgentUnreachable, match=r"dead\.example"):
            await client.inventory()
        assert time.monotonic() - began < 2


async def test_each_address_of_a_name_is_tried(names: Names) -> None:
    names.own["good.example"] = ["127.0.0.2", "127.0.0.1"]
    async with await asyncio.start_server(one, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with AgentClient(f"http://good.example:{port}", "t") as client:
            assert (await client.inventory()).host_id == "h"
        with await Lookups().connect("good.example", port, 5.0) as made:
            assert made.getpeername()[0] == "127.0.0.1"


async def test_a_name_that_is_none(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> Any:
        raise UnicodeError("label too long")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(OSError, match="label"):
        await Lookups().addresses("a" * 70)
    assert await Lookups().addresses("::1") == ("::1",)


async def test_few_names_at_a_time_and_the_others_wait(names: Names) -> None:
    lookups = Lookups(2)
    dead = [asyncio.create_task(lookups.addresses(DEAD[n % 2])) for n in range(6)]
    last = asyncio.create_task(lookups.addresses("good.example"))
    await asyncio.sleep(0.1)
    assert names.asked == list(DEAD) and not last.done()
    assert await Lookups(2).addresses("good.example") == ("127.0.0.1",), "of another user"
    names.release.set()
    assert await last == ("127.0.0.1",)
    assert all(isinstance(end, OSError) for end in await asyncio.gather(*dead, return_exceptions=True))
    assert names.asked.count(DEAD[0]) == names.asked.count(DEAD[1]) == 1
