"""The authority changes in three stages under an open console and heartbeats. Hosts that were offline go over later."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from tests.live.manager.conftest import ADMIN_TOKEN
from tests.live.manager.tls.conftest import ELSEWHERE, Agent, Secured, authority_files
from tests.live.manager.tls.conftest import serve as serve_http
from tests.live.manager.tls.test_joining_over_tls import Fake
from tests.live.manager.tls.test_rotation import answers, console, quick, until

from nqrust.client import calls
from nqrust.manager.core.trust import Trust, identity_of
from nqrust.manager.errors import SettingsError
from nqrust.manager.hosts import certificates
from nqrust.manager.store.tables import Host
from nqrust.tls import contexts, pinning
from nqrust.tls.authority import Authority, Pair, expires_at, new_authority, new_key, new_request, sign_text

__all__ = ["quick"]


class Rotating:
    """The files of the installer, in the stages of a rotation."""

    def __init__(self, secured: Secured) -> None:
        self.files, self.trust = secured.trust._files, secured.trust
        self.old = Pair(Path(self.files.authority).read_text(), Path(self.files.authority_key).read_text())
        self.new = new_authority("the next one")

    def write(self, bundle: str, key: str) -> None:
        for path, text in ((self.files.authority, bundle), (self.files.authority_key, key)):
            beside = Path(f"{path}.new")
            beside.write_text(text)
            beside.rename(path)

    def introduce(self) -> None:
        self.write(self.old.certificate + self.new.certificate, self.old.key)

    def switch(self) -> None:
        self.write(self.new.certificate + self.old.certificate, self.new.key)

    def retire(self) -> None:
        self.write(self.new.certificate, self.new.key)

    def all_at_once(self) -> None:
        """What a host sees that was offline all the time."""
        for stage in (self.introduce, self.switch, self.retire):
            stage()
            self.trust.reload()


async def followed(secured: Secured, signer: str, trusted: str) -> None:
    for _ in range(400):
        found = await secured.running.admin.send(calls.rotation())
        fits = (found.signer, found.trusted) == (pinning.fingerprint(signer), pinning.fingerprint(trusted))
        if fits and all(one.authority and one.certificate for one in found.hosts):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(found)


async def test_authority_is_replaced_under_an_open_console_and_heartbeats(secured: Secured, joined: Agent) -> None:
    stages = Rotating(secured)
    old, new = stages.old.certificate, stages.new.certificate
    refused: list[str] = []
    async with joined.running(), console(secured, joined) as socket:
        send = joined.link._send

        async def noted(path: str, token: str, body: object) -> httpx.Response:
            try:
                return await send(path, token, body)
            except Exception as error:
                refused.append(repr(error))
                raise

        joined.link._send = noted  # type: ignore[method-assign]
        stages.introduce()
        await followed(secured, old, old + new)
        await answers(socket)
        stages.switch()
        await followed(secured, new, new + old)
        await answers(socket)
        shown = await asyncio.to_thread(ssl.get_server_certificate, (ELSEWHERE, secured.port))
        assert shown.split() == secured.trust._issued.pair.certificate.split()
        stages.retire()
        await followed(secured, new, new)
        await answers(socket)
        assert joined.link.registered and refused == [], "no request failed"
    identity = joined.known.identity
    assert identity is not None and identity.authority == new
    for pair in (stages.old, stages.new):
        forged = Authority(pair).issue([contexts.MANAGER_NAME])
        tls = contexts.client(secured.trust.trusted, forged.certificate, forged.key)
        tls.check_hostname = False
        if pair is stages.new:
            assert (await secured.ask("GET", "/v1/vms", ADMIN_TOKEN, tls=tls)).status_code == 200
        else:
            with pytest.raises(httpx.HTTPError):
                await secured.ask("GET", "/v1/vms", ADMIN_TOKEN, tls=tls)


async def test_files_that_do_not_belong_together_yet_change_nothing(secured: Secured, joined: Agent) -> None:
    stages = Rotating(secured)
    before = secured.trust.fingerprint
    stages.write(stages.new.certificate, stages.old.key)
    with pytest.raises(SettingsError):
        secured.trust.reload()
    await asyncio.sleep(1.5)
    assert secured.trust.fingerprint == before
    stages.retire()
    await until(lambda: secured.trust.fingerprint == pinning.fingerprint(stages.new.certificate))


@pytest.mark.parametrize("had", ["only the former authority", "both"])
async def test_host_that_was_offline_goes_over_when_it_is_back(secured: Secured, joined: Agent, had: str) -> None:
    stages = Rotating(secured)
    if had == "both":
        stages.introduce()
        secured.trust.reload()
        await joined.link._renew(joined.known)
    before = joined.known
    stages.all_at_once()
    back = Agent(Path(joined.store._path).parent, secured.base, known=before)
    async with back.running():
        await until(lambda: back.known.identity != before.identity)
        await followed(secured, stages.new.certificate, stages.new.certificate)
    identity = back.known.identity
    assert identity is not None and identity.authority == stages.new.certificate
    assert (back.known.host_id, back.known.agent_token) == (before.host_id, before.agent_token)
    assert (await secured.host(before.host_id)).identity == 1, "it did not join again"


async def test_host_with_an_ended_certificate_gets_another(secured: Secured, joined: Agent) -> None:
    identity, host = joined.known.identity, await secured.host(joined.known.host_id)
    assert identity is not None
    ended = secured.trust._authority.sign(
        new_request(identity.key), [identity_of(host)], days=1, now=datetime.now(timezone.utc) - timedelta(days=2)
    )
    async with secured.running.core.db.transaction() as session:
        row = await session.get(Host, host.id)
        assert row is not None
        row.certificate = pinning.fingerprint(ended)
    known = joined.known.model_copy(
        update={"identity": identity.model_copy(update={"certificate": ended, "ends": expires_at(ended)})}
    )
    back = Agent(Path(joined.store._path).parent, secured.base, known=known)
    async with back.running():
        await until(lambda: back.known.identity != known.identity)
        assert back.link.registered


async def test_fake_manager_gains_nothing_from_a_host_that_was_offline(secured: Secured, joined: Agent, tmp_path: Path) -> None:
    """It shows an authority of its own, or passes on what the true manager says. It gets no token and no signature."""
    before = joined.known
    fake_trust = Trust(authority_files(tmp_path, "fake"))
    for shows in ("its own", "the true one", "the true proof for its own"):
        fake = Fake()

        async def app(scope: Scope, receive: Receive, send: Send, fake: Fake = fake, shows: str = shows) -> None:
            if scope["path"] == pinning.PATH:
                query = parse_qs(scope["query_string"].decode())
                true = await certificates.authority(secured.running.core, query["host"][0], query["nonce"][0])
                shown = true.certificate if shows == "the true one" else fake_trust.trusted
                proof = "0" * 64 if shows == "its own" else true.proof
                fake.answers[pinning.PATH] = json.dumps({"certificate": shown, "proof": proof}).encode()
            await fake(scope, receive, send)

        async with serve_http(app, fake_trust.context) as port:
            moved = Agent(tmp_path / "moved", f"http://{ELSEWHERE}:{port}", known=before)
            async with moved.running(seconds=1.5):
                assert not moved.link.registered
            assert any(path == pinning.PATH for path, _ in fake.seen), "it was asked"
            assert {path for path, _ in fake.seen} == {pinning.PATH} and not fake.secrets()
            assert moved.known == before


async def test_stolen_token_gets_no_certificate_without_the_key(secured: Secured, joined: Agent) -> None:
    identity = joined.known.identity
    assert identity is not None
    key = new_key()
    request, other = new_request(key), new_request(new_key())
    right = sign_text(identity.key, request)
    path = f"/v1/hosts/{joined.known.host_id}/certificate"
    tls = contexts.client(secured.trust.trusted)
    tls.check_hostname = False
    own = secured.trust._authority.issue(["x"])
    for former, signature, wanted in (
        ("", "", request),
        (identity.certificate, sign_text(key, request), request),
        (identity.certificate, right, other),
        (own.certificate, sign_text(own.key, request), request),
        (identity.certificate + identity.certificate, right, request),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", right, request),
        (identity.certificate, "no base64", request),
        (own.certificate.replace("CERTIFICATE", "X509 CERTIFICATE") + identity.certificate, sign_text(own.key, request), request),
    ):
        body = {"certificate_request": wanted, "former": former, "signature": signature}
        answer = await secured.ask("POST", path, joined.known.agent_token, tls=tls, body=body)
        assert (answer.status_code, answer.json()["code"]) == (401, "NQR-API-101")
    body = {"certificate_request": request, "former": identity.certificate, "signature": right}
    assert (await secured.ask("POST", path, joined.known.agent_token, tls=tls, body=body)).status_code == 200
    assert (await secured.ask("POST", path, "nqr_guess", tls=tls, body=body)).status_code == 401


async def test_join_token_names_the_authority_that_signs(secured: Secured, tmp_path: Path) -> None:
    stages = Rotating(secured)
    before = await secured.join_token("kvm5")
    stages.introduce()
    secured.trust.reload()
    agent = Agent(tmp_path / "kvm5", secured.base, before)
    async with agent.running():
        assert agent.known.identity is not None and agent.known.identity.authority == secured.trust.trusted
    outdated = await secured.join_token("kvm6")
    stages.switch()
    secured.trust.reload()
    late = Agent(tmp_path / "kvm6", secured.base, outdated)
    async with late.running(seconds=1.5):
        assert late.store.current is None, "a token of before the switch names the former authority"
    (tmp_path / "kvm6" / "join").write_text(await secured.join_token("kvm6"))
    async with late.running():
        assert late.link.registered
