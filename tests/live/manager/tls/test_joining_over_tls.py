"""Hosts join over TLS: the join token names the authority, and a fake manager gets nothing."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send
from tests.live.manager.conftest import Running
from tests.live.manager.tls.conftest import ELSEWHERE, Agent, Secured, authority_files, serve

from nqrust.client import calls
from nqrust.manager.core.trust import Trust
from nqrust.tls import authority, contexts


async def test_agent_joins_over_tls_and_gets_a_certificate(secured: Secured, joined: Agent) -> None:
    identity = joined.known.identity
    assert identity is not None and identity.authority == secured.trust.trusted
    assert timedelta(days=89) < identity.ends - datetime.now(timezone.utc) <= timedelta(days=90)
    host = await secured.host(joined.known.host_id)
    assert (host.url, host.identity) == ("https://192.0.2.9:19090", 1)
    mode = Path(joined.host.stat(joined.store._path) and joined.store._path).stat().st_mode
    assert mode & 0o777 == 0o600


async def test_join_token_names_the_authority(secured: Secured) -> None:
    secret, found = (await secured.join_token("kvm1")).split(".")
    assert found == authority.fingerprint(secured.trust.trusted)
    answer = await secured.ask("GET", "/v1/hosts/join-check", secret, tls=contexts.unchecked())
    assert answer.status_code == 204


class Fake:
    """A fake manager on the way to the true one: it takes whatever comes, and remembers it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[bytes, bytes]]] = []
        self.answers: dict[str, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append((scope["path"], dict(scope["headers"])))
        body = self.answers.get(scope["path"], b"{}")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def secrets(self) -> list[bytes]:
        return [headers[b"authorization"] for _, headers in self.seen if b"authorization" in headers]


@pytest.fixture
def fake_trust(tmp_path: Path) -> Trust:
    return Trust(authority_files(tmp_path, "fake"))


@pytest.mark.parametrize("shows", ["its own authority", "the true authority", "nothing"])
async def test_fake_manager_gets_no_join_token(secured: Secured, fake_trust: Trust, tmp_path: Path, shows: str) -> None:
    fake = Fake()
    certificate = {"its own authority": fake_trust.trusted, "the true authority": secured.trust.trusted, "nothing": ""}[shows]
    fake.answers["/v1/authority"] = json.dumps({"certificate": certificate}).encode()
    async with serve(fake, fake_trust.context) as port:
        agent = Agent(tmp_path / "kvm2", f"http://{ELSEWHERE}:{port}", await secured.join_token("kvm2"))
        async with agent.running(seconds=1.5):
            assert not agent.link.registered
        assert fake.seen and not fake.secrets() and agent.store.current is None


async def test_fake_manager_gets_no_token_of_a_host(secured: Secured, fake_trust: Trust, joined: Agent, tmp_path: Path) -> None:
    fake = Fake()
    async with serve(fake, fake_trust.context) as port:
        moved = Agent(tmp_path / "kvm1-moved", f"http://{ELSEWHERE}:{port}", known=joined.known)
        async with moved.running(seconds=1.5):
            assert not moved.link.registered
    assert not fake.secrets()


async def test_host_of_before_goes_over_to_tls_by_itself(secured: Secured, tmp_path: Path) -> None:
    old = await secured.old_host()
    beat = {"version": "0.1.0", "boot_id": "b", "capacity": {"cpus": 1, "memory_mib": 1}}
    before = await secured.ask("POST", f"/v1/hosts/{old.host_id}/heartbeat", old.agent_token, body=beat)
    assert before.status_code == 200, "plain HTTP works until it has a certificate"
    agent = Agent(tmp_path / "old", secured.base, known=old)
    async with agent.running():
        identity = agent.known.identity
    assert identity is not None and agent.known.agent_token == old.agent_token
    assert (await secured.host(old.host_id)).url == "https://192.0.2.9:19090"
    after = await secured.ask("POST", f"/v1/hosts/{old.host_id}/heartbeat", old.agent_token, body=beat)
    assert (after.status_code, after.json()["code"]) == (426, "NQR-API-150")


async def test_host_of_before_gives_a_fake_manager_with_tls_nothing(secured: Secured, fake_trust: Trust, tmp_path: Path) -> None:
    fake = Fake()
    fake.answers["/v1/authority"] = json.dumps({"certificate": fake_trust.trusted, "proof": "0" * 64}).encode()
    async with serve(fake, fake_trust.context) as port:
        agent = Agent(tmp_path / "old", f"http://{ELSEWHERE}:{port}", known=await secured.old_host())
        async with agent.running(seconds=1.5):
            assert not agent.link.registered
    assert fake.seen and not fake.secrets()


async def test_new_agent_works_with_a_manager_without_tls(manager: Running, tmp_path: Path) -> None:
    async with serve(manager.app, lambda: None) as port:
        base = f"http://{ELSEWHERE}:{port}"
        token = (await manager.admin.send(calls.join_token("kvm3", 600))).token
        assert "." not in token
        agent = Agent(tmp_path / "kvm3", base, token)
        async with agent.running():
            assert agent.link.registered and agent.known.identity is None
        again = Agent(tmp_path / "kvm3", base, known=agent.known)
        async with again.running():
            assert again.link.registered
