"""Sessions in guests through the manager: tickets, roles, the audit log, and what ends them."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.guest import CloseCode, Kind, message
from nqrust.contract.vms import VmCreate


@pytest.fixture()
async def guest() -> Any:
    """An agent whose guest answers one request with its length, then waits. `quit` breaks the connection."""

    async def handle(socket: Any) -> None:
        async for data in socket:
            if data == message(Kind.stdin, b"quit"):
                socket.transport.abort()
                return
            if data[0] == Kind.exec:
                await socket.send(message(Kind.started))
                await socket.send(message(Kind.stdout, str(len(data) - 1).encode()))
            if data == message(Kind.stdin):
                await socket.send(message(Kind.exit, b"\0\7"))
                await socket.close(1000)
                return

    async with serve(handle, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/exec"


async def running_vm(manager: Any, url: str, **fields: Any) -> Any:
    _, agent, _ = await manager.host()
    agent.exec_url = lambda vm_id: url
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", **fields)))
    return await manager.until("web1", "running")


async def test_a_ticket_opens_one_session_and_is_in_the_audit_log(served: Any, guest: str) -> None:
    base, manager = served
    await running_vm(manager, guest)
    ticket = await manager.admin.send(calls.exec_ticket("web1"))
    url = f"{base}{ticket.path}?ticket={ticket.ticket}"
    async with connect(url, proxy=None) as socket:
        await socket.send(message(Kind.exec, b"four"))
        assert [await socket.recv(), await socket.recv()] == [message(Kind.started), message(Kind.stdout, b"4")]
        await socket.send(message(Kind.stdin))
        assert await socket.recv() == message(Kind.exit, b"\0\7")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1000
    with pytest.raises(InvalidStatus):
        await connect(url, proxy=None)
    entries = (await manager.admin.send(calls.audit(limit=50))).items
    assert [(entry.action, entry.target, entry.status) for entry in entries if entry.action == "open_session"][-1] == (
        "open_session",
        "web1",
        101,
    )
    assert any(entry.action == "exec_ticket" for entry in entries)


async def test_a_ticket_for_the_console_opens_no_session_nor_the_other_way_round(served: Any, guest: str) -> None:
    base, manager = served
    vm = await running_vm(manager, guest)
    for ticket, path in (
        (await manager.admin.send(calls.console_ticket("web1")), "exec"),
        (await manager.admin.send(calls.exec_ticket("web1")), "console"),
    ):
        assert await close_code(f"{base}/v1/vms/{vm.id}/{path}?ticket={ticket.ticket}") == CloseCode.not_permitted


async def test_a_viewer_gets_neither_ticket_nor_session(served: Any, guest: str) -> None:
    base, manager = served
    await running_vm(manager, guest)
    viewer = await manager.role("viewer")
    with pytest.raises(Refused) as refused:
        await viewer.send(calls.exec_ticket("web1"))
    assert refused.value.status == 403
    headers = {"Authorization": viewer._http.headers["Authorization"]}
    assert await close_code(f"{base}/v1/vms/web1/exec", headers) == CloseCode.not_permitted


async def test_a_vm_without_commands_gets_no_ticket(served: Any, guest: str) -> None:
    _, manager = served
    await running_vm(manager, guest, guest_exec=False)
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.exec_ticket("web1"))
    assert (refused.value.status, refused.value.code) == (409, "NQR-API-122")


async def test_a_paused_vm_gets_no_ticket(served: Any, guest: str) -> None:
    """Its guest would take no command, and `nqr vm exec` would wait without end."""
    _, manager = served
    await running_vm(manager, guest)
    await manager.admin.send(calls.pause_vm("web1"))
    await manager.until("web1", "paused")
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.exec_ticket("web1"))
    assert (refused.value.status, refused.value.code) == (409, "NQR-API-111")
    assert refused.value.cure == "Run `nqr vm resume web1` first."


async def test_a_broken_agent_ends_the_session_with_a_code(served: Any, guest: str) -> None:
    base, manager = served
    await running_vm(manager, guest)
    ticket = await manager.admin.send(calls.exec_ticket("web1"))
    async with connect(f"{base}{ticket.path}?ticket={ticket.ticket}", proxy=None) as socket:
        await socket.send(message(Kind.stdin, b"quit"))
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == CloseCode.agent_away


async def close_code(url: str, headers: dict[str, str] | None = None) -> int:
    async with connect(url, proxy=None, additional_headers=headers or {}) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code
