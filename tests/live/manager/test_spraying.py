"""Password spraying: one guess at each of many names. And what a flood of sign-ins does to everybody else."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import pytest

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.auth import UserCreate
from nqrust.contract.names import CLIENT_HEADER, UI_KEY_HEADER
from nqrust.manager.access import authentication as auth
from nqrust.manager.core.callers import Callers

PASSWORD = "a long password"


class Clock:
    """Time that passes only when a test says so. Requests of strangers come slowly enough meanwhile."""

    def __init__(self, manager: Any) -> None:
        self.now = 1000.0
        manager.core.guesses.clock = lambda: self.now
        seconds = itertools.count(1000.0)
        manager.core.callers = Callers(lambda: next(seconds))


@pytest.fixture
def clock(manager: Any) -> Clock:
    return Clock(manager)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every password is wrong but PASSWORD; the ones that were tried."""
    tried: list[str] = []

    def verify(password: str, stored: str) -> bool:
        tried.append(password)
        return password == PASSWORD

    monkeypatch.setattr(auth, "verify_password", verify)
    return tried


async def status(client: Any, name: str, password: str = "Winter2026!!") -> int:
    try:
        await client.login(name, password)
    except Refused as refused:
        return refused.status
    return 200


async def user(manager: Any, name: str) -> None:
    await manager.admin.send(calls.create_user(UserCreate(username=name, password=PASSWORD)))


@pytest.mark.parametrize("source", ["192.0.2.9", "127.0.0.1", "2001:db8::7"])
async def test_one_password_for_a_thousand_names_is_throttled(manager: Any, clock: Clock, quick: list[str], source: str) -> None:
    seen = [await status(manager.client(source=source), f"user{number}") for number in range(1000)]
    assert seen == [401] * 20 + [429] * 980 and len(quick) == 20


async def test_guesses_at_many_names_sent_at_once_are_counted_one_by_one(manager: Any, clock: Clock, quick: list[str]) -> None:
    seen = await asyncio.gather(*(status(manager.client(source="192.0.2.9"), f"user{number}") for number in range(200)))
    assert sorted(seen) == [401] * 20 + [429] * 180 and len(quick) == 20


async def test_changing_the_address_within_a_64_does_not_help(manager: Any, clock: Clock, quick: list[str]) -> None:
    seen = [await status(manager.client(source=f"2001:db8::{n:x}"), f"user{n}") for n in range(1, 40)]
    assert seen == [401] * 20 + [429] * 19
    assert await status(manager.client(source="2001:db8:0:1::1"), "user1") == 401


async def test_changing_the_address_within_this_machine_does_not_help(
    manager: Any, clock: Clock, quick: list[str], ui_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any user of the manager's machine may connect from 16 million addresses."""
    await user(manager, "ann")
    monkeypatch.setattr("nqrust.loopback.user_of", lambda client, server: 1000)
    seen = [await status(manager.client(source=f"127.0.{n}.1"), f"user{n}") for n in range(1, 40)]
    assert seen == [401] * 20 + [429] * 19 and len(quick) == 20
    monkeypatch.setattr("nqrust.loopback.user_of", lambda client, server: 0)
    assert await status(manager.client(), "ann", PASSWORD) == 200, "other users of the machine do not wait"
    through = [{UI_KEY_HEADER: ui_key, CLIENT_HEADER: f"127.0.{n}.1"} for n in range(1, 40)]
    assert [await status(manager.client(**headers), "ann") for headers in through] == [401] * 5 + [429] * 34


async def test_an_own_account_does_not_buy_more_guesses(manager: Any, clock: Clock, quick: list[str]) -> None:
    await user(manager, "mallory")
    client, seen = manager.client(source="192.0.2.9"), []
    for number in range(40):
        assert await status(client, "mallory", PASSWORD) == 200
        seen.append(await status(client, f"user{number}"))
    assert seen == [401] * 20 + [429] * 20


async def test_honest_users_of_the_same_source_are_not_locked_out_for_long(manager: Any, clock: Clock, quick: list[str]) -> None:
    for name in ("ann", "bob"):
        await user(manager, name)
    there = manager.client(source="192.0.2.9")
    assert await status(there, "ann", PASSWORD) == 200
    for number in range(25):
        await status(there, f"user{number}")
    assert await status(there, "ann", PASSWORD) == 200, "she signed in from there before"
    assert await status(there, "bob", PASSWORD) == 429
    assert await status(manager.client(source="192.0.2.10"), "bob", PASSWORD) == 200
    clock.now += 30
    assert await status(there, "bob", PASSWORD) == 200
    assert [await status(there, "ann") for _ in range(6)] == [401] * 5 + [429], "her own name is still protected"


async def test_the_wait_is_in_the_answer(manager: Any, clock: Clock, quick: list[str]) -> None:
    for number in range(20):
        await status(manager.client(source="192.0.2.9"), f"user{number}")
    with pytest.raises(Refused) as refused:
        await manager.client(source="192.0.2.9").login("ann", PASSWORD)
    assert (refused.value.code, refused.value.cure) == ("NQR-API-106", "Wait 30 s, then try again.")


async def test_users_of_the_web_ui_are_told_apart(manager: Any, clock: Clock, quick: list[str], ui_key: str) -> None:
    await user(manager, "bob")

    def browser(address: str) -> Any:
        return manager.client(**{UI_KEY_HEADER: ui_key, CLIENT_HEADER: address})

    seen = [await status(browser("198.51.100.1"), f"user{number}") for number in range(25)]
    assert seen == [401] * 20 + [429] * 5
    assert await status(browser("198.51.100.2"), "bob", PASSWORD) == 200
    assert await status(manager.client(), "bob", PASSWORD) == 200, "nqr on the same machine"
    sources = {entry.source for entry in (await manager.admin.send(calls.audit())).items if entry.path == "/v1/auth/login"}
    assert sources == {"198.51.100.1", "198.51.100.2", "127.0.0.1"}


@pytest.mark.parametrize("key", ["", "wrong"])
async def test_only_the_web_ui_is_believed(manager: Any, clock: Clock, quick: list[str], key: str) -> None:
    """The attack: a guesser names another address with each guess."""
    seen = []
    for number in range(30):
        headers = {UI_KEY_HEADER: key, CLIENT_HEADER: f"198.51.100.{number}", "X-Forwarded-For": f"198.51.100.{number}"}
        seen.append(await status(manager.client(source="192.0.2.9", **headers), f"user{number}"))
    assert seen == [401] * 20 + [429] * 10


async def test_a_proxy_that_invents_addresses_for_the_web_ui_meets_a_limit(
    manager: Any, clock: Clock, quick: list[str], ui_key: str
) -> None:
    seen = []
    for number in range(250):
        headers = {UI_KEY_HEADER: ui_key, CLIENT_HEADER: f"198.51.{number}.1"}
        seen.append(await status(manager.client(**headers), f"user{number}"))
    assert seen == [401] * 200 + [429] * 50


async def test_an_address_that_the_web_ui_passes_on_makes_nobody_local(
    manager: Any, host_body: Any, join_token: str, ui_key: str
) -> None:
    """The installer's join token needs a connection from this machine."""
    client = manager.client(join_token, source="192.0.2.9", **{UI_KEY_HEADER: ui_key, CLIENT_HEADER: "127.0.0.1"})
    with pytest.raises(Refused) as refused:
        await client.send(calls.register(host_body("h1")))
    assert refused.value.code == "NQR-API-114"


async def test_a_flood_of_sign_ins_does_not_starve_the_api(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From many addresses at once, so that no limit per source helps."""
    go_on, at_work, lock = threading.Event(), [0, 0], threading.Lock()

    def verify(password: str, stored: str) -> bool:
        with lock:
            at_work[0] += 1
            at_work[1] = max(at_work)
        go_on.wait(60)
        with lock:
            at_work[0] -= 1
        return False

    monkeypatch.setattr(auth, "verify_password", verify)
    flood = [
        asyncio.create_task(status(manager.client(source=f"198.51.{number // 250}.{number % 250}"), f"user{number}"))
        for number in range(500)
    ]
    try:
        while sum(task.done() for task in flood) < 400:
            await asyncio.sleep(0.05)
        for _ in range(10):
            await asyncio.wait_for(manager.admin.send(calls.list_vms()), 20)
            await asyncio.wait_for(asyncio.to_thread(int), 20)  # the threads of everything else are free too
    finally:
        go_on.set()
    seen = await asyncio.gather(*flood)
    assert set(seen) == {401, 503} and seen.count(401) < 100
    assert at_work[1] <= manager.core.hashing.workers
