"""The attack: a sender keeps requests open, loses its rights, and lets the requests go. None of them may do anything."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from tests.live.manager.conftest import host_body
from tests.live.manager.pending import Pending

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.auth import JoinTokenCreate, Role, TokenCreate, UserCreate, UserUpdate
from nqrust.contract.credentials import verify_password
from nqrust.contract.hosts import CertificateRenewal
from nqrust.manager.access import authentication as auth
from nqrust.manager.access import rights, tokens
from nqrust.manager.access import service as accounts
from nqrust.manager.api import gate
from nqrust.manager.core import callers
from nqrust.manager.core.principal import Principal
from nqrust.manager.core.source import Source
from nqrust.manager.errors import ManagerError, NotAuthenticated, NotPermitted
from nqrust.manager.hosts import certificates, joining, rotation
from nqrust.manager.store.tables import Host, JoinToken, Token, User
from nqrust.serving import bodies

PASSWORD = "a long password"
HERE = Source("127.0.0.1", "127.0.0.1")
MAKES_RIGHTS = (
    ("/v1/tokens", {"name": "child", "role": "admin", "ttl_seconds": 0}),
    ("/v1/hosts/join-tokens", {"host": "rogue", "ttl_seconds": 604800}),
    ("/v1/users", {"username": "mallory", "password": PASSWORD, "role": "admin"}),
)


def port(served: Any) -> int:
    return int(served[0].rsplit(":", 1)[1])


async def ann(manager: Any, role: Role = Role.admin) -> tuple[str, str]:
    """(id of a user, the token of its session)."""
    made = await manager.admin.send(calls.create_user(UserCreate(username="ann", password=PASSWORD, role=role)))
    session = await manager.client().login("ann", PASSWORD)
    return made.id, session.token


async def begun(served: Any, authorization: str, *requests: tuple[str, Any]) -> list[Pending]:
    """Requests that the manager has let in, and that wait for a byte."""
    waiting = len(LET_IN) + len(requests)
    found = [await Pending(port(served), authorization).begin("POST", path, body) for path, body in requests]
    await until(lambda: len(LET_IN) == waiting)
    return found


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come to that")


LET_IN: list[int] = []


@pytest.fixture(autouse=True)
def let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remember which requests have passed the checks before the body."""
    read = bodies.read
    LET_IN.clear()

    def reading(receive: Any, limit: int) -> Any:
        LET_IN.append(limit)
        return read(receive, limit)

    monkeypatch.setattr(bodies, "read", reading)


async def made(manager: Any) -> tuple[set[str], set[str], list[str | None]]:
    """Names of users and of API tokens, and hosts of join tokens."""
    async with manager.core.db.transaction() as session:
        users = set(await session.scalars(select(User.username)))
        names = set(await session.scalars(select(Token.name).where(Token.kind == "api")))
        return users, names, list(await session.scalars(select(JoinToken.host_name).where(JoinToken.reusable.is_(False))))


async def test_a_request_ends_with_its_token_and_its_session_before_the_last_byte(served: Any) -> None:
    _, manager = served
    token = await manager.admin.send(calls.create_token(TokenCreate(name="stolen", role=Role.admin)))
    _, session = await ann(manager)
    waiting = [
        *await begun(served, f"Bearer {token.token}", *MAKES_RIGHTS),
        *await begun(served, f"Bearer {session}", *MAKES_RIGHTS),
    ]
    await manager.admin.send(calls.delete_token(token.id))
    await manager.client(session).send(calls.logout())
    assert [(await one.finish())[0] for one in waiting] == [401] * 6
    assert await made(manager) == ({"admin", "ann"}, set(), [])
    refused = [one for one in (await manager.admin.send(calls.audit())).items if one.status == 401]
    assert {one.actor for one in refused} == {"token:stolen", "ann"}, "the audit log names who tried"


async def test_a_request_ends_with_its_user_and_with_the_rights_of_its_user(served: Any) -> None:
    _, manager = served
    user_id, session = await ann(manager)
    demoted = await begun(served, f"Bearer {session}", *MAKES_RIGHTS)
    await manager.admin.send(calls.update_user(user_id, UserUpdate(role=Role.operator)))
    assert [(await one.finish())[0] for one in demoted] == [403] * 3
    deleted = await begun(served, f"Bearer {session}", ("/v1/vms", {"name": "web1", "image": "tiny", "start": False}))
    await manager.admin.send(calls.delete_user(user_id))
    assert [(await one.finish())[0] for one in deleted] == [401]
    assert await made(manager) == ({"admin"}, set(), [])
    assert (await manager.admin.send(calls.list_vms())).total == 0


async def test_a_request_that_waits_for_its_turn_ends_too(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "WORKING", 1)
    _, manager = served
    user_id, session = await ann(manager)
    authorization = f"Bearer {session}"
    (first,) = await begun(served, authorization, MAKES_RIGHTS[0])
    vm = {"name": "web1", "image": "tiny", "start": False}
    second = await Pending(port(served), authorization).begin("POST", "/v1/vms", vm, whole=True)
    third = await Pending(port(served), authorization).begin("GET", "/v1/audit")
    await until(lambda: manager.core.callers._turn(f"user {user_id}", 1)._waiting == 2)
    await manager.admin.send(calls.delete_user(user_id))
    assert [(await one.finish())[0] for one in (first, second, third)] == [401] * 3
    assert (await manager.admin.send(calls.list_vms())).total == 0


async def test_a_request_with_a_password_ends_with_that_password(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def verify(password: str, stored: str) -> bool:
        hashed.append(password)
        return verify_password(password, stored)

    monkeypatch.setattr(auth, "verify_password", verify)
    _, manager = served
    user_id, _ = await ann(manager)
    hashed.clear()
    basic = "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
    allowed = await Pending(port(served), basic).begin("POST", *MAKES_RIGHTS[1], whole=True)
    assert (await allowed.finish())[0] == 201
    assert hashed == [PASSWORD], "the second look costs no hash"
    (late,) = await begun(served, basic, MAKES_RIGHTS[0])
    await manager.admin.send(calls.update_user(user_id, UserUpdate(password="another password")))
    assert (await late.finish())[0] == 401
    assert (await made(manager))[1] == set()


async def test_every_change_of_rights_looks_at_the_sender_in_its_own_transaction(manager: Any) -> None:
    """Rights can end after the gate: a new password is hashed for 60 ms, and waits for its turn before that."""
    core = manager.core
    victim, _ = await ann(manager, Role.viewer)
    kept = await manager.admin.send(calls.create_token(TokenCreate(name="kept", role=Role.admin)))
    token = await manager.admin.send(calls.create_token(TokenCreate(name="stolen", role=Role.admin)))
    who = await auth.authenticate(core, f"Bearer {token.token}", HERE)
    changes: list[Callable[[], Awaitable[Any]]] = [
        lambda: tokens.create_token(core, TokenCreate(name="child", role=Role.admin), who),
        lambda: tokens.delete_token(core, kept.id, who),
        lambda: accounts.create_user(core, UserCreate(username="mallory", password=PASSWORD, role=Role.admin), who),
        lambda: accounts.update_user(core, victim, UserUpdate(role=Role.admin), who),
        lambda: accounts.delete_user(core, victim, who),
        lambda: joining.create_token(core, JoinTokenCreate(host="rogue"), who),
    ]
    before = await made(manager)

    async def refused() -> set[type[ManagerError]]:
        found = set()
        for change in changes:
            with pytest.raises(ManagerError) as error:
                await change()
            found.add(error.type)
        return found

    async with core.db.transaction() as session:
        (await session.get(Token, token.id)).role = "operator"
    assert await refused() == {NotPermitted}
    await manager.admin.send(calls.delete_token(token.id))
    assert await refused() == {NotAuthenticated}
    users, names, joins = await made(manager)
    assert (users, names, joins) == (before[0], {"kept"}, [])
    assert (await manager.admin.send(calls.users())).items[1].role is Role.viewer


async def test_a_revocation_waits_for_what_the_token_makes_at_that_moment(manager: Any) -> None:
    """So it sees that, and ends it too."""
    core = manager.core
    parent = await manager.admin.send(calls.create_token(TokenCreate(name="parent", role=Role.admin)))
    child = await manager.client(parent.token).send(calls.create_token(TokenCreate(name="child", role=Role.admin)))
    who = await auth.authenticate(core, f"Bearer {child.token}", HERE)
    async with core.db.transaction() as session:
        await rights.hold(session, who)
        revoking = asyncio.create_task(manager.admin.send(calls.delete_token(parent.id)))
        session.add(JoinToken(id="late", sha256="late", host_name="rogue", created_by=who.name))
        await session.flush()
        await asyncio.sleep(0.7)
        assert not revoking.done()
    await revoking
    assert (await made(manager))[1:] == (set(), [])


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_sign_in_under_way_does_not_survive_a_new_password(manager: Any, monkeypatch: Any, deleted: bool) -> None:
    """The password was right when it was checked, and its hash takes 60 ms or more."""
    user_id, _ = await ann(manager)
    checked, go_on = asyncio.Event(), asyncio.Event()
    check = auth.check_password

    async def slowly(*arguments: Any) -> Principal:
        found = await check(*arguments)
        checked.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(auth, "check_password", slowly)
    signing_in = asyncio.create_task(manager.client().login("ann", PASSWORD))
    await checked.wait()
    change = calls.delete_user(user_id) if deleted else calls.update_user(user_id, UserUpdate(password="another password"))
    await manager.admin.send(change)
    go_on.set()
    with pytest.raises(Refused) as refused:
        await signing_in
    assert refused.value.status == 401
    async with manager.core.db.transaction() as session:
        assert list(await session.scalars(select(Token.id).where(Token.kind == "session"))) == []


async def test_an_agent_that_lost_its_host_gets_no_new_rights(manager: Any) -> None:
    """After the gate too: the host joined again while the request was on its way to the database."""
    core = manager.core
    joined, _, _ = await manager.host("h1")
    was = await auth.authenticate(core, f"Bearer {joined.agent_token}", HERE)
    async with core.db.transaction() as session:
        host = await session.get(Host, joined.host_id)
        host.agent_token_sha256, host.identity = "another", 2
    core.trust = SimpleNamespace(trusted="", sign=None)
    renewal = CertificateRenewal(certificate_request="x")
    for who in (was, Principal("agent", was.name, host_id=was.host_id, identity=1, proof="another")):
        for change in (
            rotation.new_tokens(core, joined.host_id, who),
            certificates.renew(core, joined.host_id, renewal, who, shown=True),
            joining.register(core, host_body("h1"), who, "127.0.0.1", True),
        ):
            with pytest.raises(NotAuthenticated):
                await change


async def test_a_download_ends_with_the_rights_of_its_sender(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "CHECK_SECONDS", 0.05)
    _, manager = served
    size = 64 * 1024 * 1024
    folder = os.path.join(manager.core.settings.image_root, "big")
    os.makedirs(folder)
    for part, length in (("rootfs", size), ("kernel", 512)):
        with open(os.path.join(folder, part), "wb") as file:
            file.truncate(length)
    parts = {
        p: {"file": p, "size": n, "sha256": _sha256(os.path.join(folder, p))} for p, n in (("rootfs", size), ("kernel", 512))
    }
    with open(os.path.join(folder, "image.json"), "w") as file:
        json.dump({"name": "big", "created_at": "2026-01-01T00:00:00Z", **parts}, file)
    await manager.admin.send(calls.scan_images())
    url = f"http://127.0.0.1:{port(served)}/v1/images/big/blobs/rootfs"
    for revoked in (False, True):
        token = await manager.admin.send(calls.create_token(TokenCreate(name="robot", role=Role.operator)))
        got = 0
        async with (
            httpx.AsyncClient(trust_env=False, timeout=60) as http,
            http.stream("GET", url, headers={"Authorization": f"Bearer {token.token}"}) as answer,
        ):
            assert answer.status_code == 200
            pieces = answer.aiter_raw()
            got += len(await pieces.__anext__())
            await asyncio.sleep(0.2)
            if revoked:
                await manager.admin.send(calls.delete_token(token.id))
            try:
                async for piece in pieces:
                    got += len(piece)
            except httpx.RemoteProtocolError:
                assert revoked
        assert (got < size) is revoked, got


async def test_new_tokens_and_a_first_certificate_end_no_download_of_an_agent(manager: Any) -> None:
    joined, _, _ = await manager.host("h1")
    who = await auth.authenticate(manager.core, f"Bearer {joined.agent_token}", HERE)
    async with manager.core.db.transaction() as session:
        host = await session.get(Host, joined.host_id)
        host.agent_token_sha256, host.identity = "another", 1
    assert await auth.still_reads(manager.core, who)
    replaced = Principal("agent", who.name, host_id=who.host_id, identity=2)
    assert not await auth.still_reads(manager.core, replaced)


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
