"""The audit log: who, what by name, from where, with which result."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import httpx
import pytest
from tests.live.manager.test_console import close_code, echo, running_vm  # noqa: F401 - a fixture
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from nqrust.client import calls
from nqrust.client.call import Call, nothing
from nqrust.client.errors import Refused
from nqrust.contract.auth import Role, TokenCreate, UserCreate, UserUpdate
from nqrust.contract.events import AuditEntry
from nqrust.contract.names import CLIENT_HEADER, UI_KEY_HEADER
from nqrust.contract.templates import TemplateCreate
from nqrust.contract.vms import VmCreate
from nqrust.manager.core.core import SIGN_IN_SECONDS, SIGN_INS
from nqrust.manager.core.throttle import Buckets

PASSWORD = "a long password"


async def user(manager: Any, name: str, role: Role = Role.admin) -> tuple[Any, Any]:
    made = await manager.admin.send(calls.create_user(UserCreate(username=name, password=PASSWORD, role=role)))
    client = manager.client(source="192.0.2.7")
    await client.login(name, PASSWORD)
    return made, client


async def entries(manager: Any, **only: Any) -> list[AuditEntry]:
    """Newest first."""
    items = (await manager.admin.send(calls.audit(1000))).items
    return [entry for entry in items if all(getattr(entry, key) == value for key, value in only.items())]


async def refused(call: Any) -> Refused:
    with pytest.raises(Refused) as error:
        await call
    return error.value


async def test_an_entry_names_user_token_thing_and_source(manager: Any) -> None:
    ann, client = await user(manager, "ann")
    made = await client.send(calls.create_token(TokenCreate(name="ci", role=Role.operator)))
    holder = manager.client(made.token, source="192.0.2.8")
    vm = await holder.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    await holder.send(calls.delete_vm(vm.id))
    (created,), (deleted,) = await entries(manager, action="create_vm"), await entries(manager, action="delete_vm")
    assert (created.actor, created.username, created.token, created.auth) == ("token:ci", "ann", "ci", "token")
    assert (created.target, created.status, created.source, created.code) == ("web1", 201, "192.0.2.8", "")
    assert deleted.target == "web1" and deleted.path == f"/v1/vms/{vm.id}", "by name, though the request has the id"
    (token,) = await entries(manager, action="create_token")
    assert (token.actor, token.username, token.token, token.auth, token.target) == ("ann", "ann", "", "session", "ci")
    (login,) = await entries(manager, action="login", status=200)
    assert (login.actor, login.username, login.auth, login.target) == ("ann", "ann", "password", "ann")
    await manager.admin.send(calls.delete_token(made.id))
    await manager.admin.send(calls.update_user(ann.id, UserUpdate(role=Role.viewer)))
    await manager.admin.send(calls.delete_user(ann.id))
    for action, target in (("delete_token", "ci"), ("update_user", "ann"), ("delete_user", "ann"), ("create_user", "ann")):
        (entry,) = await entries(manager, action=action)
        assert (entry.target, entry.actor, entry.token, entry.auth) == (target, "token:cli", "cli", "token"), action


async def test_things_of_things_are_named_too(manager: Any) -> None:
    await manager.host("h1")
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    vm = await manager.until("web1", "running")
    await manager.admin.send(calls.create_snapshot(vm.id, "before"))
    await manager.until("web1", lambda vm: vm.observed_generation == vm.generation)
    await manager.admin.send(calls.delete_snapshot(vm.id, "before"))
    host = await manager.admin.send(calls.get_host("h1"))
    await manager.admin.send(calls.cordon_host(host.id))
    await manager.admin.send(calls.create_template(TemplateCreate(name="small", image="tiny")))
    await manager.admin.send(calls.join_token("h2"))
    wanted = {
        "create_snapshot": "web1/before", "delete_snapshot": "web1/before", "cordon": "h1", "create_template": "small",
        "create_join_token": "h2", "register": "h1",
    }  # fmt: skip
    for action, target in wanted.items():
        assert [entry.target for entry in await entries(manager, action=action)] == [target], action
    (joined,) = await entries(manager, action="register")
    assert (joined.actor, joined.token, joined.auth) == ("join-token:local", "local", "join-token")


async def test_refused_changes_are_recorded_with_their_code(manager: Any) -> None:
    """401, 403, 409 and 422 of writes."""
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    _, viewer = await user(manager, "vic", Role.viewer)
    assert (await refused(viewer.send(calls.delete_vm("web1")))).status == 403
    assert (await refused(manager.client("nqr_stolen", source="192.0.2.66").send(calls.delete_vm("web1")))).status == 401
    assert (await refused(manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny"))))).status == 409
    assert (await refused(manager.admin.send(Call("POST", "/v1/vms", nothing)))).status == 422
    assert (await refused(manager.admin.send(calls.delete_vm("none")))).status == 404
    newest = (await entries(manager))[:5]
    assert [(e.actor, e.status, e.code, e.action, e.target) for e in reversed(newest)] == [
        ("vic", 403, "NQR-API-102", "delete_vm", "web1"),
        ("anonymous", 401, "NQR-API-101", "", ""),
        ("token:cli", 409, "NQR-API-105", "create_vm", "web1"),
        ("token:cli", 422, "NQR-API-104", "create_vm", ""),
        ("token:cli", 404, "NQR-API-103", "delete_vm", "none"),
    ]
    assert newest[-2].source == "192.0.2.66" and newest[-2].path == "/v1/vms/web1"


async def test_nobody_fills_the_disk_with_refusals(manager: Any) -> None:
    _, viewer = await user(manager, "vic", Role.viewer)
    for client, most in ((viewer, 200), (manager.client("nqr_stolen"), 50)):
        for _ in range(most + 20):
            await refused(client.send(calls.delete_vm("web1")))
    assert 200 <= len(await entries(manager, actor="vic", status=403)) < 210
    assert len(await entries(manager, status=401)) == 50
    with pytest.raises(Refused):
        await manager.client().login("mallory", "guess")
    assert (await entries(manager))[0].actor == "sign-in:mallory", "noise of strangers hides no wrong password"


async def opened(manager: Any, count: int) -> list[AuditEntry]:
    """The console entries, once there are `count`."""
    for _ in range(100):
        found = await entries(manager, action="open_console")
        if len(found) >= count:
            return found
        await asyncio.sleep(0.05)
    return found


async def test_a_console_writes_an_entry_however_it_authenticates(served: Any, echo: Any) -> None:  # noqa: F811
    base, manager = served
    vm = await running_vm(manager, echo[0])
    _, ann = await user(manager, "ann", Role.operator)
    session = ann._http.headers["Authorization"]
    basic = "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
    path = f"{base}/v1/vms/{vm.id}/console"
    ticket = await ann.send(calls.console_ticket("web1"))
    ways = [(f"{base}{ticket.path}?ticket={ticket.ticket}", {})]
    ways += [(path, {"Authorization": value}) for value in (session, basic, f"Bearer {manager.admin_token}")]
    for url, headers in ways:
        async with connect(url, proxy=None, additional_headers=headers) as socket:
            assert await socket.recv() == b"login: "
    told = [(e.actor, e.auth, e.target, e.status, e.source) for e in reversed(await opened(manager, 4))]
    assert told == [
        ("ann", "ticket", "web1", 101, "127.0.0.1"),
        ("ann", "session", "web1", 101, "127.0.0.1"),
        ("ann", "password", "web1", 101, "127.0.0.1"),
        ("token:cli", "token", "web1", 101, "127.0.0.1"),
    ]


async def test_a_console_in_the_web_ui_has_the_address_of_its_browser(served: Any, echo: Any, ui_key: str) -> None:  # noqa: F811
    base, manager = served
    await running_vm(manager, echo[0])
    ticket = await manager.admin.send(calls.console_ticket("web1"))
    headers = {UI_KEY_HEADER: ui_key, CLIENT_HEADER: "198.51.100.1"}
    async with connect(f"{base}{ticket.path}?ticket={ticket.ticket}", proxy=None, additional_headers=headers) as socket:
        assert await socket.recv() == b"login: "
    assert [entry.source for entry in await opened(manager, 1)] == ["198.51.100.1"]


async def test_refused_consoles_are_recorded_too(served: Any, echo: Any) -> None:  # noqa: F811
    base, manager = served
    await running_vm(manager, "ws://127.0.0.1:9/none")
    _, vic = await user(manager, "vic", Role.viewer)
    with pytest.raises(InvalidStatus):
        await connect(f"{base}/v1/vms/web1/console?ticket=stolen", proxy=None)
    headers = {"Authorization": vic._http.headers["Authorization"]}
    assert await close_code(f"{base}/v1/vms/web1/console", headers) == 4403
    admin = {"Authorization": f"Bearer {manager.admin_token}"}
    for name, code in (("none", 4404), ("web1", 4502)):
        assert await close_code(f"{base}/v1/vms/{name}/console", admin) == code
    told = [(e.actor, e.status, e.path, e.target) for e in reversed(await opened(manager, 4))]
    assert told == [
        ("anonymous", 401, "/v1/vms/web1/console", ""),
        ("vic", 403, "/v1/vms/web1/console", "web1"),
        ("token:cli", 404, "/v1/vms/none/console", "none"),
        ("token:cli", 502, "/v1/vms/web1/console", "web1"),
    ]


async def test_refused_consoles_and_sign_outs_without_a_session_fill_no_disk(served: Any, echo: Any) -> None:  # noqa: F811
    base, manager = served
    await running_vm(manager, echo[0])
    _, vic = await user(manager, "vic", Role.viewer)
    basic = {"Authorization": "Basic " + base64.b64encode(f"vic:{PASSWORD}".encode()).decode()}
    for _ in range(230):
        assert await close_code(f"{base}/v1/vms/web1/console", basic) == 4403
    assert len(await entries(manager, action="open_console")) <= 205, "as of other refusals, 200 and then one in 10 s"
    token = await manager.admin.send(calls.create_token(TokenCreate(name="probe", role=Role.viewer)))
    await manager.client(token.token).send(calls.logout())
    assert await entries(manager, action="logout") == [], "nothing ended"
    await vic.send(calls.logout())
    assert [entry.actor for entry in await entries(manager, action="logout")] == ["vic"]


async def test_a_host_that_registers_without_end_fills_no_disk(manager: Any, host_body: Any) -> None:
    _, _, agent = await manager.host("h1")
    for _ in range(220):
        await agent.send(calls.register(host_body("h1")))
    assert 200 <= len(await entries(manager, action="register", actor="agent:h1")) < 210


async def test_a_user_signs_in_200_times_at_once_at_most(manager: Any, admin_password: str) -> None:
    await user(manager, "vic", Role.viewer)
    manager.core.sign_ins = Buckets(3, 60.0)
    for _ in range(3):
        await manager.client().login("vic", PASSWORD)
    assert (await refused(manager.client().login("vic", PASSWORD))).status == 429
    await manager.client().login("admin", admin_password)
    assert (SIGN_INS, SIGN_IN_SECONDS) == (200, 5.0)


async def test_pages_of_an_export_have_every_entry_once_and_oldest_first(manager: Any) -> None:
    for number in range(7):
        await manager.admin.send(calls.create_vm(VmCreate(name=f"web{number}", image="tiny")))
    pages, after = [], 0
    while page := (await manager.admin.send(calls.audit(3, after))).items:
        pages.append([entry.target for entry in page])
        after = page[-1].id
    assert pages == [["web0", "web1", "web2"], ["web3", "web4", "web5"], ["web6"]]
    for since, count in (("2020-01-01", 3), ("2999-01-01T00:00:00+00:00", 0), ("2020-01-01T00:00:00Z", 3)):
        assert len((await manager.admin.send(calls.audit(3, since=since))).items) == count, since
    viewer = await manager.role("viewer")
    assert (await refused(viewer.send(calls.audit(3, 0)))).status == 403


async def test_secrets_of_requests_are_in_no_entry(manager: Any) -> None:
    """Only names are taken from bodies, and no query is recorded."""
    _, ann = await user(manager, "ann")
    secret = (await ann.send(calls.create_token(TokenCreate(name="ci")))).token
    ticket_free = "ticket=" not in repr(await entries(manager))
    transport = httpx.ASGITransport(app=manager.app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://manager") as http:
        await http.post("/v1/vms?password=hunter2", headers={"Authorization": f"Bearer {manager.admin_token}"})
    told = repr(await entries(manager))
    assert ticket_free and secret not in told and PASSWORD not in told and "hunter2" not in told
