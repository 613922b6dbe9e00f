"""The console proxy, over real sockets: viewer, manager, an agent that echoes."""

from __future__ import annotations

import asyncio
import base64
from contextlib import AsyncExitStack
from typing import Any
from unittest.mock import AsyncMock

import pytest
from sqlalchemy import text
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.auth import Role, TokenCreate, UserCreate, UserUpdate
from nqrust.contract.vms import VmCreate
from nqrust.manager.core import viewers
from nqrust.manager.errors import DatabaseAway
from nqrust.manager.vms import console


@pytest.fixture()
async def echo() -> Any:
    """An agent's console: greets, then echoes; ends on `exit`. The headers it saw."""
    seen: list[str | None] = []

    async def handle(socket: Any) -> None:
        seen.append(socket.request.headers.get("Authorization"))
        await socket.send(b"login: ")
        async for message in socket:
            if message == b"exit":
                await socket.close(1000, "ended")
                return
            await socket.send(message)

    async with serve(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}/console", seen


async def running_vm(manager: Any, url: str) -> Any:
    _, agent, _ = await manager.host()
    agent.console_url = lambda vm_id: url
    agent.console_options = AsyncMock(return_value={"additional_headers": {"Authorization": "Bearer command"}})
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    return await manager.until("web1", "running")


async def test_bytes_go_both_ways_and_a_ticket_works_once(served: Any, echo: Any) -> None:
    base, manager = served
    await running_vm(manager, echo[0])
    ticket = await manager.admin.send(calls.console_ticket("web1"))
    url = f"{base}{ticket.path}?ticket={ticket.ticket}"
    async with connect(url, proxy=None) as socket:
        assert await socket.recv() == b"login: "
        await socket.send(b"uname -a\n")
        assert await socket.recv() == b"uname -a\n"
        await socket.send('{"type":"resize","rows":40,"columns":120}')
        assert await socket.recv() == '{"type":"resize","rows":40,"columns":120}'
        await socket.send(b"exit")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1000
    assert echo[1] == ["Bearer command"]
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, proxy=None)
    assert refused.value.response.status_code == 401


async def test_console_without_ticket_or_token_is_refused(served: Any, echo: Any) -> None:
    base, manager = served
    vm = await running_vm(manager, echo[0])
    path = f"{base}/v1/vms/{vm.id}/console"
    for url in (path, path + "?ticket=", path + "?ticket=guess"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, proxy=None)
        assert refused.value.response.status_code == 401
    async with connect(path, proxy=None, additional_headers={"Authorization": f"Bearer {manager.admin_token}"}) as socket:
        assert await socket.recv() == b"login: "


async def test_a_ticket_opens_its_own_vm_only_and_a_viewer_none(served: Any, echo: Any) -> None:
    base, manager = served
    await running_vm(manager, echo[0])
    await manager.admin.send(calls.create_vm(VmCreate(name="web2", image="tiny")))
    other = await manager.until("web2", "running")
    ticket = await manager.admin.send(calls.console_ticket("web1"))
    assert await close_code(f"{base}/v1/vms/{other.id}/console?ticket={ticket.ticket}") == 4403
    viewer = await manager.role("viewer")
    headers = {"Authorization": viewer._http.headers["Authorization"]}
    assert await close_code(f"{base}/v1/vms/web1/console", headers) == 4403


async def test_close_codes_say_why(served: Any) -> None:
    base, manager = served
    await running_vm(manager, "ws://127.0.0.1:9/none")
    headers = {"Authorization": f"Bearer {manager.admin_token}"}
    assert await close_code(f"{base}/v1/vms/none/console", headers) == 4404
    assert await close_code(f"{base}/v1/vms/web1/console", headers) == 4502


async def test_a_user_with_many_consoles_gets_no_more_until_one_ends(served: Any, echo: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(viewers, "OF_A_USER", 2)
    base, manager = served
    await running_vm(manager, echo[0])
    ann, _ = await _signed_in(manager)
    unused = await ann.send(calls.console_ticket("web1"))
    headers = {"Authorization": "Basic " + base64.b64encode(b"ann:a long password").decode()}
    async with AsyncExitStack() as stack:
        for _ in range(2):
            ticket = await ann.send(calls.console_ticket("web1"))
            socket = await stack.enter_async_context(connect(f"{base}{ticket.path}?ticket={ticket.ticket}", proxy=None))
            assert await socket.recv() == b"login: "
        assert await close_code(f"{base}{unused.path}?ticket={unused.ticket}") == 4429
        assert await close_code(f"{base}/v1/vms/web1/console", headers) == 4429
        for call in (calls.console_ticket("web1"), calls.exec_ticket("web1")):
            with pytest.raises(Refused, match="You have 2 open consoles and sessions") as refused:
                await ann.send(call)
            assert (refused.value.status, refused.value.code) == (429, "NQR-API-152")
        ticket = await manager.admin.send(calls.console_ticket("web1"))
        async with connect(f"{base}{ticket.path}?ticket={ticket.ticket}", proxy=None) as other:
            assert await other.recv() == b"login: "
    assert len(echo[1]) == 3, "the agent heard of no other"
    while manager.core.viewers._open:
        await asyncio.sleep(0.02)
    await ann.send(calls.console_ticket("web1"))
    entries = (await manager.admin.send(calls.audit())).items
    assert [one.status for one in entries if one.action == "open_console"].count(429) == 2


async def _signed_in(manager: Any) -> tuple[Any, str]:
    """(client of an operator of her own, her id)."""
    user = await manager.admin.send(calls.create_user(UserCreate(username="ann", password="a long password", role=Role.operator)))
    ann = manager.client()
    await ann.login("ann", "a long password")
    return ann, user.id


async def _deleted(manager: Any, ann: Any, user_id: str) -> None:
    await manager.admin.send(calls.delete_user(user_id))


async def _demoted(manager: Any, ann: Any, user_id: str) -> None:
    await manager.admin.send(calls.update_user(user_id, UserUpdate(role=Role.viewer)))


async def _new_password(manager: Any, ann: Any, user_id: str) -> None:
    await manager.admin.send(calls.update_user(user_id, UserUpdate(password="another password")))


async def _signed_out(manager: Any, ann: Any, user_id: str) -> None:
    await ann.send(calls.logout())


async def _expired(manager: Any, ann: Any, user_id: str) -> None:
    async with manager.core.db.transaction() as session:
        await session.execute(text("UPDATE tokens SET expires_at = now() WHERE kind = 'session'"))


@pytest.mark.parametrize("end", [_deleted, _demoted, _new_password, _signed_out, _expired])
async def test_console_closes_when_its_user_loses_access(served: Any, echo: Any, monkeypatch: Any, end: Any) -> None:
    monkeypatch.setattr(console, "CHECK_SECONDS", 0.1)
    base, manager = served
    await running_vm(manager, echo[0])
    ann, user_id = await _signed_in(manager)
    ticket = await ann.send(calls.console_ticket("web1"))
    unused = await ann.send(calls.console_ticket("web1"))
    async with connect(f"{base}{ticket.path}?ticket={ticket.ticket}", proxy=None) as socket:
        await socket.recv()
        await asyncio.sleep(0.4)
        await socket.send(b"x")
        assert await socket.recv() == b"x", "it stays open while she may"
        await end(manager, ann, user_id)
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 5)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, "no longer" in closed.value.rcvd.reason) == (4403, True)
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{base}{unused.path}?ticket={unused.ticket}", proxy=None)
    assert refused.value.response.status_code == 401


async def test_a_revoked_token_and_a_deleted_user_with_a_password_lose_their_consoles(
    served: Any, echo: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(console, "CHECK_SECONDS", 0.1)
    base, manager = served
    await running_vm(manager, echo[0])
    token = await manager.admin.send(calls.create_token(TokenCreate(name="robot", role=Role.operator)))
    _, user_id = await _signed_in(manager)
    basic = "Basic " + base64.b64encode(b"ann:a long password").decode()
    for authorization, ended in (
        (f"Bearer {token.token}", manager.admin.send(calls.delete_token(token.id))),
        (basic, manager.admin.send(calls.delete_user(user_id))),
    ):
        headers = {"Authorization": authorization}
        async with connect(f"{base}/v1/vms/web1/console", proxy=None, additional_headers=headers) as socket:
            await socket.recv()
            await ended
            with pytest.raises(ConnectionClosed, match="4403"):
                await asyncio.wait_for(socket.recv(), 5)


async def test_database_outage_closes_no_console(served: Any, echo: Any, monkeypatch: Any) -> None:
    async def away(*_: Any) -> bool:
        raise DatabaseAway()

    monkeypatch.setattr(console, "CHECK_SECONDS", 0.05)
    base, manager = served
    await running_vm(manager, echo[0])
    monkeypatch.setattr(console, "still_may", away)
    headers = {"Authorization": f"Bearer {manager.admin_token}"}
    async with connect(f"{base}/v1/vms/web1/console", proxy=None, additional_headers=headers) as socket:
        await socket.recv()
        await asyncio.sleep(0.3)
        await socket.send(b"x")
        assert await socket.recv() == b"x"


async def close_code(url: str, headers: dict[str, str] | None = None) -> int:
    async with connect(url, proxy=None, additional_headers=headers or {}) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 10)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


@pytest.mark.parametrize("kind", ["console", "exec"])
async def test_a_token_of_a_host_learns_no_names_of_vms(served: Any, echo: Any, kind: str) -> None:
    base, manager = served
    await running_vm(manager, echo[0])
    joined, _, _ = await manager.host("h2")
    headers = {"Authorization": f"Bearer {joined.agent_token}"}
    codes = [await close_code(f"{base}/v1/vms/{name}/{kind}", headers) for name in ("web1", "nothing")]
    assert codes == [console.NOT_PERMITTED] * 2


async def test_a_console_opened_with_a_password_ends_with_that_password(served: Any, echo: Any, monkeypatch: Any) -> None:
    """Who opened it has no session that could end."""
    monkeypatch.setattr(console, "CHECK_SECONDS", 0.1)
    base, manager = served
    await running_vm(manager, echo[0])
    _, user_id = await _signed_in(manager)
    headers = {"Authorization": "Basic " + base64.b64encode(b"ann:a long password").decode()}
    async with connect(f"{base}/v1/vms/web1/console", proxy=None, additional_headers=headers) as socket:
        await socket.recv()
        await manager.admin.send(calls.update_user(user_id, UserUpdate(password="another password")))
        with pytest.raises(ConnectionClosed, match="4403"):
            await asyncio.wait_for(socket.recv(), 5)
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{base}/v1/vms/web1/console", proxy=None, additional_headers=headers)
    assert refused.value.response.status_code == 401


async def test_a_user_who_lost_its_rights_while_the_agent_was_asked_gets_no_console(
    served: Any, echo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, manager = served
    await running_vm(manager, echo[0])
    token = await manager.admin.send(calls.create_token(TokenCreate(name="robot", role=Role.operator)))
    connect_to_agent = console.connect

    async def slowly(*arguments: Any, **options: Any) -> Any:
        await manager.admin.send(calls.delete_token(token.id))
        return await connect_to_agent(*arguments, **options)

    monkeypatch.setattr(console, "connect", slowly)
    assert await close_code(f"{base}/v1/vms/web1/console", {"Authorization": f"Bearer {token.token}"}) == 4403
    entries = (await manager.admin.send(calls.audit())).items
    assert [(one.actor, one.status) for one in entries if one.action == "open_console"] == [("token:robot", 403)]
