"""Many requests of one sender keep nobody else waiting: of a stranger, of a viewer, and of clients that do not wait for answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from nqrust.client import calls
from nqrust.contract.auth import Role, TokenCreate, UserCreate
from nqrust.contract.credentials import hash_token, new_token
from nqrust.manager.core import callers
from nqrust.manager.store import shares

MANY = 190
"""Nearly as many as the connections that a source gets."""


@pytest.fixture
def asked(manager: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many transactions were open, each time one began. Each takes a while, as on a busy host."""
    seen, now = [], [0]
    transaction = manager.core.db.transaction

    @asynccontextmanager
    async def slow() -> AsyncIterator[Any]:
        async with transaction() as session:
            now[0] += 1
            seen.append(now[0])
            try:
                await asyncio.sleep(0.02)
                yield session
            finally:
                now[0] -= 1

    monkeypatch.setattr(manager.core.db, "transaction", slow)
    return seen


def http(manager: Any, token: str, source: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=manager.app, client=(source, 1))
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(transport=transport, base_url="http://manager", headers=headers, timeout=120)


async def flood(manager: Any, token: str | None, source: str, basic: bool = False) -> list[int]:
    async def one() -> int:
        async with http(manager, token or new_token(), source) as client:
            auth = httpx.BasicAuth("token", new_token()) if basic else None
            return (await client.get("/v1/vms", auth=auth)).status_code

    return list(await asyncio.gather(*(one() for _ in range(MANY))))


@pytest.mark.parametrize("basic", [False, True], ids=["bearer", "as a password"])
async def test_strangers_with_made_up_tokens_keep_no_known_sender_waiting(manager: Any, asked: list[int], basic: bool) -> None:
    sources = [f"192.0.2.{number}" for number in range(1, 6)]
    strangers = [asyncio.create_task(flood(manager, None, source, basic)) for source in sources]
    await asyncio.sleep(0.5)
    async with http(manager, manager.admin_token) as client:
        for _ in range(3):
            assert (await client.get("/v1/vms")).status_code == 200
    assert not any(task.done() for task in strangers), "the administrator did not wait for them"
    for task in strangers:
        task.cancel()
    assert max(asked) < 20, "and the database had few of them at a time"


async def test_a_stranger_keeps_nobody_of_another_source_waiting(manager: Any, asked: list[int]) -> None:
    made = await manager.admin.send(calls.create_token(TokenCreate(name="new", role=Role.viewer)))
    stranger = asyncio.create_task(flood(manager, None, "192.0.2.1"))
    await asyncio.sleep(0.5)
    async with http(manager, made.token, "192.0.2.2") as client:
        assert (await client.get("/v1/vms")).status_code == 200
    assert not stranger.done()
    stranger.cancel()


async def test_a_viewer_keeps_nobody_else_waiting(manager: Any, asked: list[int]) -> None:
    """Not with several sessions either. The pool has 16 connections."""
    await manager.admin.send(calls.create_user(UserCreate(username="eve", password="a long password", role=Role.viewer)))
    sessions = [(await manager.client().send(calls.login("eve", "a long password"))).token for _ in range(2)]
    for token in sessions:
        async with http(manager, token) as client:
            assert (await client.get("/v1/vms")).status_code == 200
    asked.clear()
    viewer = asyncio.gather(*(flood(manager, token, "192.0.2.1") for token in sessions))
    await asyncio.sleep(0.3)
    async with http(manager, manager.admin_token) as client:
        assert (await client.get("/v1/vms")).status_code == 200
    assert not viewer.done()
    assert max(asked) <= callers.CONNECTIONS + callers.CHECKING + 2, "the viewer's, the administrator's, and the worker's"
    assert {status for each in await viewer for status in each} == {200}, "its requests were only put off"


async def test_a_request_that_has_a_connection_never_waits_for_another_one_of_its_sender(manager: Any) -> None:
    turns = asyncio.Semaphore(1)

    async def nested() -> None:
        async with manager.core.db.transaction(), manager.core.db.transaction():
            assert turns.locked()

    with shares.of_sender(turns):
        await asyncio.wait_for(nested(), 10)
    assert not turns.locked()


async def test_requests_whose_clients_are_gone_do_not_pile_up(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "AT_ONCE", 5)
    monkeypatch.setattr(callers, "WAITING", 10)
    manager.core.callers = callers.Callers(lambda: 1000.0)  # however slow the machine is
    async with http(manager, "nobody", "192.0.2.1") as client:
        answers = await asyncio.gather(*(client.get("/health") for _ in range(40)))
    told = sorted(answer.status_code for answer in answers)
    assert told == [200] * 15 + [429] * 25
    assert {answer.json()["code"] for answer in answers if answer.status_code == 429} == {"NQR-API-200"}


async def test_a_revoked_token_is_a_stranger_again(manager: Any) -> None:
    made = await manager.admin.send(calls.create_token(TokenCreate(name="short", role=Role.viewer)))
    async with http(manager, made.token) as client:
        assert (await client.get("/v1/vms")).status_code == 200
        assert hash_token(made.token) in manager.core.callers._known
        await manager.admin.send(calls.delete_token(made.id))
        assert (await client.get("/v1/vms")).status_code == 401
        assert hash_token(made.token) not in manager.core.callers._known


async def test_a_sign_in_takes_no_long_body(manager: Any) -> None:
    async with http(manager, "nobody") as client:
        answer = await client.post("/v1/auth/login", content=b'{"username": "' + b"a" * 20_000)
    assert (answer.status_code, answer.json()["code"]) == (413, "NQR-API-108")
