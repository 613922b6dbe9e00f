"""What the installer asks a manager on another machine, over real sockets. The join token goes to nobody else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.live.manager.tls.conftest import ELSEWHERE, Agent, Secured, serve
from tests.live.manager.tls.test_joining_over_tls import Fake, fake_trust

from nqrust.host.local import LocalHost
from nqrust.host.secret import Secret
from nqrust.installer.preflight import reach, remote_manager
from nqrust.installer.preflight.reach import Joined
from nqrust.installer.preflight.remote_manager import RemoteManager
from nqrust.installer.settings.model import Settings
from nqrust.manager.core.trust import Trust

__all__ = ["fake_trust"]


def findings(base: str, token: str) -> list[str]:
    settings = Settings.model_validate({"mode": "agent", "agent": {"manager_base": base}})
    return [one.code for one in reach.manager_to_join(settings, LocalHost(), "kvm1", Secret(token), Joined.no)]


async def test_join_token_is_checked_over_tls(secured: Secured) -> None:
    token = await secured.join_token("kvm1")
    assert await asyncio.to_thread(findings, secured.base, token) == []
    assert await asyncio.to_thread(findings, secured.base, token.partition(".")[0]) == ["NQR-PRE-025"]
    used = "nqr_" + "x" * 43 + "." + token.rpartition(".")[2]
    assert await asyncio.to_thread(findings, secured.base, used) == ["NQR-PRE-025"]


async def test_fake_manager_gets_no_join_token_from_the_installer(secured: Secured, fake_trust: Trust) -> None:
    token, fake = await secured.join_token("kvm1"), Fake()
    fake.answers["/health"] = b'{"status": "ok", "version": "1"}'
    for shown in (fake_trust.trusted, secured.trust.trusted):
        fake.answers["/v1/authority"] = json.dumps({"certificate": shown, "proof": ""}).encode()
        async with serve(fake, fake_trust.context) as port:
            found = await asyncio.to_thread(findings, f"http://{ELSEWHERE}:{port}", token)
        assert found == ["NQR-PRE-027"]
    assert fake.seen != [] and fake.secrets() == []


async def test_agent_that_joined_is_known_by_its_authority(
    secured: Secured, joined: Agent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(remote_manager, "AGENT_CREDENTIALS", str(tmp_path / "kvm1" / "credentials.json"))
    remote = RemoteManager(LocalHost(), secured.base)
    status, _ = await asyncio.to_thread(remote.ask, "/v1/hosts/join-check", Secret(joined.known.agent_token))
    assert status in (204, 401), "the certificate is the agent's alone, so its token is refused, but over TLS"
