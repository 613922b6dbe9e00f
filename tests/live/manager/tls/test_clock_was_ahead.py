"""The clock of a machine is ahead until it synchronizes: what it signed then is not valid yet, and is soon replaced."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx
import pytest
from tests.live.manager.tls.conftest import ELSEWHERE, Agent, Secured
from tests.live.manager.tls.test_authority_rotation import Rotating
from tests.live.manager.tls.test_rotation import until
from tests.live.manager.tls.test_tls import agent_api

from nqrust.client import calls
from nqrust.client.agent import AgentClient, AgentUnreachable
from nqrust.manager import app
from nqrust.manager.clock import now
from nqrust.manager.core.trust import Trust, identity_of
from nqrust.manager.errors import SettingsError
from nqrust.manager.hosts import rotation
from nqrust.manager.store.tables import Host
from nqrust.tls import authority, pinning
from nqrust.tls.reloading import ReloadingContext


@contextlib.contextmanager
def ahead(**by: float) -> Iterator[None]:
    """Have certificates made as if the clock was ahead."""
    real = authority._now

    def later(now: datetime | None) -> datetime:
        return real(now) + timedelta(**by)

    with pytest.MonkeyPatch.context() as meanwhile:
        meanwhile.setattr(authority, "_now", later)
        yield


async def test_manager_that_started_with_its_clock_ahead_is_reachable_a_minute_later(
    secured: Secured, joined: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts and the manager refuse each other before. Running listeners and clients take the new certificate."""
    trust, ui = secured.trust, Path(str(secured.trust._files.ui))
    shown = ReloadingContext(str(ui))
    with ahead(days=3):
        trust.renew(anew=True)
    assert shown() is not None
    early, published = trust._issued.pair.certificate, ui.read_text()
    towards = trust.towards(await secured.host(joined.known.host_id))
    async with agent_api(joined) as port, AgentClient(f"https://{ELSEWHERE}:{port}", "command", tls=towards) as manager:
        with pytest.raises(AgentUnreachable):
            await manager.console_log("v1")
        with pytest.raises(httpx.ConnectError, match="not yet valid"):
            await joined.link._heartbeat()
        monkeypatch.setattr(app, "LOOK_EVERY", 0.05)
        keeping = asyncio.create_task(app.keep_certificates(secured.running.core))
        await until(lambda: trust._issued.pair.certificate != early)
        keeping.cancel()
        await joined.link._heartbeat()
        assert await manager.console_log("v1") == '"v1"'
    now_shown = await asyncio.to_thread(ssl.get_server_certificate, (ELSEWHERE, secured.port))
    assert now_shown.split() == trust._issued.pair.certificate.split()
    assert ui.read_text() != published and shown() is not None


async def test_valid_certificate_is_not_replaced_each_minute(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "LOOK_EVERY", 0.01)
    monkeypatch.setattr("nqrust.manager.core.trust._names", lambda: ("localhost", "192.0.2.77"))
    before = secured.trust._issued.pair.certificate
    keeping = asyncio.create_task(app.keep_certificates(secured.running.core))
    await asyncio.sleep(0.2)
    keeping.cancel()
    assert secured.trust._issued.pair.certificate == before, "another address waits for the hourly look"


async def test_clock_past_the_end_of_the_authority_does_not_end_the_looks(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LOOK_EVERY", 0.05)
    before = secured.trust._issued
    with monkeypatch.context() as meanwhile, ahead(days=20 * 365):
        meanwhile.setattr(type(before), "valid", lambda *_: False)
        keeping = asyncio.create_task(app.keep_certificates(secured.running.core))
        await asyncio.sleep(0.3)
        assert not keeping.done() and secured.trust._issued is before
        with pytest.raises(SettingsError, match="clock is wrong"):
            Trust(secured.trust._files)
    with ahead(days=3):
        secured.trust.renew(anew=True)
    await until(secured.trust.valid)
    keeping.cancel()


async def test_authority_made_far_ahead_is_cured_by_another(secured: Secured, tmp_path: Path) -> None:
    """No other host can have joined before."""
    with ahead(days=3):
        early = authority.new_authority("made too early")
    stages = Rotating(secured)
    stages.write(early.certificate, early.key)
    secured.trust.reload()
    token = await secured.join_token("kvm1")
    async with Agent(tmp_path / "kvm1", secured.base, token).running(seconds=1.0):
        assert not (tmp_path / "kvm1" / "credentials.json").exists()
    stages.old = early
    stages.all_at_once()
    agent = Agent(tmp_path / "kvm1", secured.base, await secured.join_token("kvm1"))
    async with agent.running():
        assert agent.link.registered


async def given_early(secured: Secured, joined: Agent) -> Agent:
    """The host with a certificate that the manager signed while its clock was ahead."""
    identity, host = joined.known.identity, await secured.host(joined.known.host_id)
    assert identity is not None
    early = secured.trust._authority.sign(
        authority.new_request(identity.key), [identity_of(host)], now=datetime.now(timezone.utc) + timedelta(days=3)
    )
    async with secured.running.core.db.transaction() as session:
        row = await session.get(Host, host.id)
        assert row is not None
        row.certificate, row.certificate_at = pinning.fingerprint(early), datetime.now(timezone.utc) + timedelta(days=3)
    changed = identity.model_copy(update={"certificate": early, "ends": authority.expires_at(early)})
    known = joined.known.model_copy(update={"identity": changed})
    return Agent(Path(joined.store._path).parent, secured.base, known=known)


async def test_host_whose_certificate_is_not_valid_yet_gets_another(secured: Secured, joined: Agent) -> None:
    back = await given_early(secured, joined)
    before = back.known.identity
    async with back.running(seconds=5.0):
        assert back.link.registered and back.known.identity != before
    assert (await secured.host(back.known.host_id)).identity == 1, "it did not join again"


async def test_manager_asks_for_what_it_signed_while_its_clock_was_ahead_and_once(secured: Secured, joined: Agent) -> None:
    """A connection that stays open shows no host that its certificate is not valid yet."""
    async with secured.running.core.db.transaction() as session:
        row = await session.get(Host, joined.known.host_id)
        assert row is not None
        row.certificate_at = datetime.now(timezone.utc) + timedelta(hours=8)
    before = joined.known.identity
    await joined.link._heartbeat()
    after = joined.known.identity
    assert after != before
    await joined.link._heartbeat()
    assert joined.known.identity == after


async def test_rotation_that_began_while_the_clock_was_ahead_is_followed_once(
    secured: Secured, joined: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(rotation, "now", lambda: now() + timedelta(hours=8))
        await secured.running.admin.send(calls.rotate_tokens())
        await secured.running.admin.send(calls.rotate_certificates())
    seen = []
    for _ in range(3):
        await joined.link._heartbeat()
        seen.append((joined.known.agent_token, joined.known.identity))
    assert seen[0] == seen[1] == seen[2]
    found = await secured.running.admin.send(calls.rotation())
    assert [(one.tokens, one.certificate) for one in found.hosts] == [(True, True)]


async def test_tokens_of_while_the_clock_was_ahead_follow_the_next_rotation(
    secured: Secured, joined: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be the ones that somebody stole."""
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(rotation, "now", lambda: now() + timedelta(hours=8))
        await secured.running.admin.send(calls.rotate_tokens())
        await joined.link._heartbeat()
    before = joined.known.agent_token
    begun = await secured.running.admin.send(calls.rotate_tokens())
    assert [one.tokens for one in begun.hosts] == [False]
    await joined.link._heartbeat()
    assert joined.known.agent_token != before
