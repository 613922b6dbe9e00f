"""The attack: the agent of a stolen machine keeps requests open, and lets them go after another machine has replaced it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.live.manager.conftest import host_body
from tests.live.manager.pending import Pending
from tests.live.manager.tls.conftest import ELSEWHERE, Agent, Secured

from nqrust.serving import bodies
from nqrust.tls import authority, contexts


async def test_requests_of_a_replaced_agent_get_nothing(
    secured: Secured, joined: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_in: list[int] = []
    read = bodies.read

    def reading(receive: Any, limit: int) -> Any:
        let_in.append(limit)
        return read(receive, limit)

    monkeypatch.setattr(bodies, "read", reading)
    host, token, identity = joined.known.host_id, joined.known.agent_token, joined.known.identity
    assert identity is not None
    own = contexts.client(identity.authority, identity.certificate, identity.key)
    own.check_hostname = False
    request = authority.new_request(authority.new_key())
    wanted = host_body("kvm1", url="http://192.0.2.66:19090").model_copy(update={"certificate_request": request})
    waiting = [
        await Pending(secured.port, f"Bearer {token}", address=ELSEWHERE, tls=own).begin("POST", path, body)
        for path, body in (
            (f"/v1/hosts/{host}/certificate", {"certificate_request": request}),
            (f"/v1/hosts/{host}/tokens", {"unused": 1}),
            ("/v1/hosts/register", wanted.model_dump(mode="json")),
        )
    ]
    for _ in range(400):
        if len(let_in) == 3:
            break
        await asyncio.sleep(0.05)
    async with secured.running.core.db.transaction() as session:
        await session.execute(text("UPDATE hosts SET last_seen_at = now() - interval '2 minutes'"))
    new = Agent(tmp_path / "new", secured.base, await secured.join_token("kvm1", replace=True))
    new.name = "kvm1"
    async with new.running():
        assert new.link.registered
        before = await secured.host(host)
        assert [(await one.finish())[0] for one in waiting] == [401] * 3
    after = await secured.host(host)
    assert (after.identity, after.url, after.certificate) == (before.identity, before.url, before.certificate)
    assert after.next_agent_token_sha256 is None
    mine = new.known
    assert mine.identity is not None
    tls = contexts.client(mine.identity.authority, mine.identity.certificate, mine.identity.key)
    tls.check_hostname = False
    beat = joined.beat().model_dump(mode="json")
    answer = await secured.ask("POST", f"/v1/hosts/{host}/heartbeat", mine.agent_token, tls=tls, body=beat)
    assert answer.status_code == 200
