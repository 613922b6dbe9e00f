"""The gate and strangers: guesses all at once, what they leave behind."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from nqrust.client.errors import Refused
from nqrust.contract.credentials import verify_password
from nqrust.manager.services import auth


def raw(manager: Any, **options: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=manager.app, client=("127.0.0.1", 1))
    return httpx.AsyncClient(transport=transport, base_url="http://manager", **options)


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


async def test_a_stranger_does_not_fill_the_audit_log(manager: Any, admin_password: str) -> None:
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
    entries = (await manager.admin.audit()).items
    assert [(e.actor, e.status) for e in entries] == [("sign-in:admin", 401)] * 5 + [("admin", 200)]


async def test_wrong_passwords_are_in_the_audit_log_as_fast_as_it_can_be_read(manager: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(auth, "verify_password", lambda password, stored: False)
    for number in range(60):
        with pytest.raises(Refused):
            await manager.client().login(f"u{number}", "guess")
    assert len((await manager.admin.audit()).items) == 50
