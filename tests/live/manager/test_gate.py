"""The gate and strangers: guesses all at once, what they leave behind, what their pages make a browser ask for."""

from __future__ import annotations

import asyncio
import base64
import itertools
import threading
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.auth import UserCreate
from nqrust.contract.credentials import verify_password
from nqrust.manager.access import authentication as auth
from nqrust.manager.api import gate
from nqrust.manager.core.callers import Callers


def raw(manager: Any, **options: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=manager.app, client=("127.0.0.1", 1))
    return httpx.AsyncClient(transport=transport, base_url="http://manager", **options)


@pytest.fixture
def still(manager: Any) -> None:
    """The throttle's waits do not pass while a test asks on and on, however slow the machine is."""
    manager.core.guesses.clock = lambda: 1000.0
    seconds = itertools.count(1000.0)
    manager.core.callers = Callers(lambda: next(seconds))  # a request a second needs no wait


@pytest.mark.usefixtures("still")
async def test_guesses_sent_all_at_once_are_counted_one_by_one(manager: Any, admin_password: str, monkeypatch: Any) -> None:
    verified: list[str] = []

    def verify(password: str, stored: str) -> bool:
        verified.append(password)
        return verify_password(password, stored)

    monkeypatch.setattr(auth, "verify_password", verify)
    async with raw(manager) as http:
        body = {"username": "admin", "password": "guess"}
        answers = await asyncio.gather(*(http.post("/v1/auth/login", json=body) for _ in range(200)))
    assert len(verified) == 5
    assert sorted(a.status_code for a in answers) == [401] * 5 + [429] * 195


async def test_many_right_passwords_at_once_are_no_guesses(manager: Any, admin_password: str) -> None:
    async with raw(manager) as http:
        rights = [http.post("/v1/auth/login", json={"username": "admin", "password": admin_password}) for _ in range(20)]
        wrongs = [http.post("/v1/auth/login", json={"username": "admin", "password": "mistyped"}) for _ in range(4)]
        answers = await asyncio.gather(*wrongs, *rights)
    assert [a.status_code for a in answers] == [401] * 4 + [200] * 20


@pytest.mark.usefixtures("still")
async def test_anonymous_requests_do_not_fill_the_audit_log(manager: Any, admin_password: str) -> None:
    assert (await manager.client().login("admin", admin_password)).username == "admin"
    async with raw(manager) as http:

        async def attempt(**body: Any) -> int:
            return (await http.post("/v1/auth/login", **body)).status_code

        wrong = [await attempt(json={"username": "admin", "password": "guess"}) for _ in range(5)]
        assert wrong == [401] * 5
        for _ in range(1000):
            assert await attempt(json={"username": "admin", "password": "guess"}) == 429
        assert await attempt(json={}) == 422
        assert await attempt(content=b"x" * (1024 * 1024 + 1)) == 413
    entries = (await manager.admin.send(calls.audit())).items
    assert [(e.actor, e.status) for e in entries] == [("sign-in:admin", 401)] * 5 + [("admin", 200)]


async def test_wrong_passwords_are_in_the_audit_log_as_fast_as_it_can_be_read(manager: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(auth, "verify_password", lambda password, stored: False)
    for number in range(60):
        with pytest.raises(Refused):
            await manager.client(source=f"192.0.2.{number}").login(f"u{number}", "guess")
    assert len((await manager.admin.send(calls.audit())).items) == 50


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "http://manager:8080"},
    {"Origin": "null"},
    {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_cross_site_browser_requests_are_refused(manager: Any, admin_password: str, headers: Any) -> None:
    async with raw(manager, auth=("admin", admin_password), headers=headers) as browser:
        refused = await browser.post("/v1/images/scan")
        assert (refused.status_code, refused.json()["code"]) == (403, "NQR-API-102")
        assert (await browser.get("/v1/vms")).status_code == 200
    async with raw(manager, headers={"Authorization": f"Bearer {manager.admin_token}", **headers}) as program:
        assert (await program.post("/v1/images/scan")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://manager"},
        {"Origin": "http://manager", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://outside.example", "Sec-Fetch-Site": "same-origin"},  # a proxy gave another Host
    ],
)
async def test_same_site_pages_and_programs_with_a_password_are_accepted(manager: Any, admin_password: str, headers: Any) -> None:
    async with raw(manager, auth=("admin", admin_password), headers=headers) as http:
        assert (await http.post("/v1/images/scan")).status_code == 200


async def test_no_other_site_opens_a_console_with_the_browsers_password(served: Any, admin_password: str) -> None:
    base, _ = served
    basic = {"Authorization": "Basic " + base64.b64encode(f"admin:{admin_password}".encode()).decode()}
    path = f"{base}/v1/vms/none/console"
    with pytest.raises(InvalidStatus) as refused:
        await connect(path, proxy=None, additional_headers=basic, origin="http://evil.example")
    assert refused.value.response.status_code == 403
    for origin in (None, base.replace("ws://", "http://")):
        async with connect(path, proxy=None, additional_headers=basic, origin=origin) as socket:
            with pytest.raises(ConnectionClosed, match="4404"):
                await socket.recv()


async def test_strangers_write_few_and_short_lines_into_the_log(
    manager: Any, admin_password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[dict[str, Any]] = []
    monkeypatch.setattr(gate, "LINES", 20)
    monkeypatch.setattr(gate, "LINE_SECONDS", 3600.0)
    monkeypatch.setattr(gate, "log", SimpleNamespace(info=lambda _, **said: lines.append(said), debug=lambda _, **said: None))
    async with raw(manager) as http:
        for _ in range(60):
            assert (await http.get(f"/{'x' * 4000}")).status_code == 401
        assert len(lines) == 20 and {len(line["path"]) for line in lines} == {gate.LONGEST_PATH}
        body = {"username": "admin", "password": admin_password}
        assert (await http.post("/v1/auth/login", json=body)).status_code == 200
    for _ in range(30):
        await manager.admin.send(calls.list_images())
    assert [line["status"] for line in lines[20:]] == [200] * 31, "whoever may sign in is in the log"


async def test_a_user_who_is_deleted_while_the_password_is_checked_is_not_remembered(
    manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password that was right is not checked again for a minute."""
    ann = await manager.admin.send(calls.create_user(UserCreate(username="ann", password="a long password")))
    began, go_on = threading.Event(), threading.Event()

    def verify(password: str, stored: str) -> bool:
        began.set()
        return go_on.wait(20)

    monkeypatch.setattr(auth, "verify_password", verify)
    basic = {"Authorization": "Basic " + base64.b64encode(b"ann:a long password").decode()}
    async with raw(manager) as http:
        asked = asyncio.create_task(http.get("/v1/vms", headers=basic))
        assert await asyncio.to_thread(began.wait, 20)
        await manager.admin.send(calls.delete_user(ann.id))
        go_on.set()
        await asked
        assert (await http.get("/v1/vms", headers=basic)).status_code == 401
