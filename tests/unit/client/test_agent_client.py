"""The connection to an agent: the client notices a silent host while it waits for long work."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from pydantic import ValidationError

from nqrust import loopback
from nqrust.client import agent as agent_client
from nqrust.client.agent import LARGEST, NOTICES_SILENCE, AgentClient, AgentUnreachable
from nqrust.contract.agent import Inventory


@asynccontextmanager
async def agent(answer: bytes) -> AsyncIterator[str]:
    """Return the address of a server that gives `answer` to every request. It only closes the connection if `answer` is
    empty."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(one, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_agent_connections_use_tcp_keepalive() -> None:
    seen: list[dict[tuple[int, int], int]] = []

    async def look(answer: httpx.Response) -> None:
        connection = answer.extensions["network_stream"].get_extra_info("socket")
        seen.append({(level, option): connection.getsockopt(level, option) for level, option, _ in NOTICES_SILENCE})

    async with agent(b"said") as url, AgentClient(url, "token") as client:
        client._http.event_hooks = {"request": [], "response": [look]}
        assert await client.console_log("vm") == "said"
    assert seen == [{(level, option): value for level, option, value in NOTICES_SILENCE}]
    probes = {option: value for level, option, value in NOTICES_SILENCE if level == socket.IPPROTO_TCP}
    noticed = probes[socket.TCP_KEEPIDLE] + probes[socket.TCP_KEEPCNT] * probes[socket.TCP_KEEPINTVL]
    assert noticed == probes[socket.TCP_USER_TIMEOUT] / 1000, "the same by either way"


async def test_closed_agent_connection_counts_as_no_answer() -> None:
    async with agent(b"") as url, AgentClient(url, "token") as client:
        with pytest.raises(AgentUnreachable, match=url):
            await client.health()


@pytest.mark.parametrize("told", ["", "Content-Encoding: gzip\r\n"], ids=["endless", "compressed"])
async def test_answer_without_end_takes_little_memory(told: str) -> None:
    sent = 0

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\n{told}Connection: close\r\n\r\n".encode())
        with contextlib.suppress(OSError):
            while sent < 4 * LARGEST:
                writer.write(bytes(1 << 20))
                await writer.drain()
                sent += 1 << 20
        writer.close()

    async with (
        await asyncio.start_server(one, "127.0.0.1", 0) as server,
        AgentClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "token") as client,
    ):
        with pytest.raises(AgentUnreachable, match=r"longer than|compressed"):
            await client.inventory()
    assert sent < 2 * LARGEST == 32 << 20


async def test_answer_that_trickles_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_client, "_READING", 0.5)

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(100):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.1)
        writer.close()

    async with (
        await asyncio.start_server(one, "127.0.0.1", 0) as server,
        AgentClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "token", timeout=1.0) as client,
    ):
        with pytest.raises(AgentUnreachable):
            await asyncio.wait_for(client.inventory(), 5)


def _long_vm(**more: object) -> dict[str, object]:
    forwards = [{"host_port": 1024, "guest_port": 1}] * 64
    return {"id": "a", "scope": "", "state": "running", "tags": ["x"] * 32, "forwards": forwards} | more


def _of_host(*, vms: list[dict[str, object]]) -> dict[str, object]:
    tap = {"name": "tap0", "vm_id": None, "bridge": None, "up": True}
    own = {"host_id": "h", "boot_id": "b", "time": "2026-01-01T00:00:00Z"}
    return own | {"vms": vms, "taps": [tap], "volumes": [{"name": "v", "size_mib": 1}]}


def _long(**more: object) -> bytes:
    return json.dumps(_of_host(vms=[_long_vm(**more)] * 2000)).encode()


async def test_long_inventory_does_not_stop_the_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    content, parse, beats, meanwhile = _long(), agent_client._long_inventory, [0], [0]
    assert len(content) > 4 << 20

    async def beat() -> None:
        while True:
            beats[0] += 1
            await asyncio.sleep(0.001)

    def counted(content: bytes) -> Inventory:
        before = beats[0]
        found = parse(content)
        meanwhile[0] = beats[0] - before
        return found

    monkeypatch.setattr(agent_client, "_long_inventory", counted)
    async with agent(content) as url, AgentClient(url, "token") as client:
        beating = asyncio.create_task(beat())
        found = await client.inventory()
        beating.cancel()
    assert found == Inventory.model_validate_json(content)
    assert meanwhile[0] >= 5


@pytest.mark.parametrize("content", [_long(state="odd"), b"[" * (1 << 20), b"[%s]" % (b"1," * (1 << 20) + b"1")])
async def test_long_inventory_out_of_bounds_is_refused(content: bytes) -> None:
    async with agent(content) as url, AgentClient(url, "token") as client:
        with pytest.raises((AgentUnreachable, ValidationError)):
            await client.inventory()


@pytest.mark.parametrize("unit", [b"[],", b'{"":0},', b"1e9,"])
async def test_long_inventory_of_nothing_but_parts_is_not_parsed(monkeypatch: pytest.MonkeyPatch, unit: bytes) -> None:
    """16 MiB of them took 470 MiB of memory, and a second in which the manager did nothing else."""
    monkeypatch.setattr(agent_client, "from_json", lambda content: pytest.fail("it was parsed"))
    content = b'{"vms":[' + unit * ((15 << 20) // len(unit)) + b"0]}"
    async with agent(content) as url, AgentClient(url, "token") as client:
        with pytest.raises(AgentUnreachable, match="too many parts"):
            await client.inventory()


async def test_inventory_of_ten_thousand_vms_is_parsed() -> None:
    vm = _long_vm() | {"forwards": [{"host_port": 1024, "guest_port": 1}] * 4, "tags": ["x"] * 4}
    content = json.dumps(_of_host(vms=[vm] * 10_000)).encode()
    async with agent(content) as url, AgentClient(url, "token") as client:
        assert len((await client.inventory()).vms) == 10_000


async def test_other_answers_are_short() -> None:
    async with agent(b'{"id": "a", "tags": [' + b"[]," * (1 << 20) + b"0]}") as url, AgentClient(url, "token") as client:
        with pytest.raises(AgentUnreachable, match="longer than 512 KiB"):
            await client.get_vm("a")


async def test_console_looks_at_the_listener_of_its_own_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user can take the port between a look and the connection. The token goes to the one that was looked at."""
    heard = []

    def check(host: str, port: int, *, connected: bool = False) -> None:
        if connected:
            raise loopback.Impostor("user 65534 listens there")

    monkeypatch.setattr(loopback, "check", check)

    async def somebody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(somebody, "127.0.0.1", 0)
    async with AgentClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "nqr_command") as agent:
        with pytest.raises(AgentUnreachable, match="user 65534"):
            async with agent.connect_console("a"):
                pass
        await asyncio.sleep(0.2)
    server.close()
    assert heard == [b""]
