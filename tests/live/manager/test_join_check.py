"""A join token can be tried before anything is installed, without using it up."""

from __future__ import annotations

from typing import Any

import httpx
from tests.live.manager.conftest import by_root

from nqrust.client import calls

PATH = "/v1/hosts/join-check"


async def asked(manager: Any, token: str, source: str = "192.0.2.7") -> httpx.Response:
    transport = httpx.ASGITransport(app=by_root(manager.app), client=(source, 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://manager") as http:
        return await http.get(PATH, headers={"Authorization": f"Bearer {token}"})


async def test_join_check_accepts_a_good_token_without_using_it_up(manager: Any, host_body: Any) -> None:
    token = (await manager.admin.send(calls.join_token("h1", 600))).token
    for _ in range(2):
        assert (await asked(manager, token)).status_code == 204
    assert (await manager.client(token, source="192.0.2.7").send(calls.register(host_body("h1")))).agent_token


async def test_wrong_used_and_misplaced_tokens_are_refused(manager: Any, host_body: Any, join_token: str) -> None:
    assert (await asked(manager, "nqr_wrong")).status_code == 401
    token = (await manager.admin.send(calls.join_token("h1", 600))).token
    await manager.client(token).send(calls.register(host_body("h1")))
    used = await asked(manager, token)
    assert used.status_code == 401 and used.json()["code"] == "NQR-API-114"
    assert "nqr host token" in used.json()["cure"]
    assert (await asked(manager, join_token)).status_code == 401, "the installer's own is for this machine"
    assert (await asked(manager, join_token, "127.0.0.1")).status_code == 204


async def test_join_check_accepts_only_join_tokens(manager: Any) -> None:
    assert (await asked(manager, manager.admin_token)).status_code == 403
