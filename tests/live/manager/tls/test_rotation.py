"""Secrets change while a console is open and hosts send heartbeats. Nothing drops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from tests.live.manager.conftest import ADMIN_TOKEN, Running, host_body
from tests.live.manager.tls.conftest import ELSEWHERE, Agent, Secured
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import serve

from nqrust.client import calls
from nqrust.client.manager import Refused
from nqrust.contract.auth import Role, TokenCreate
from nqrust.contract.credentials import hash_token, new_token
from nqrust.contract.hosts import HostRotation, Rotation
from nqrust.contract.vms import VmCreate
from nqrust.tls import contexts

URL = "https://192.0.2.9:19090"


@contextlib.asynccontextmanager
async def console(secured: Secured, agent: Agent) -> AsyncIterator[ClientConnection]:
    """An open console of a VM on `agent`'s host: through the manager, over TLS to the agent, which echoes."""

    async def echo(socket: Any) -> None:
        async for message in socket:
            await socket.send(message)

    simulated = secured.running.agents.at(URL, "")
    simulated.host_id = agent.known.host_id
    server = agent.link.channel.server_context()
    tls = secured.trust.towards(await secured.host(agent.known.host_id))
    assert server is not None and tls is not None
    async with serve(echo, ELSEWHERE, 0, ssl=server) as running:
        port = running.sockets[0].getsockname()[1]
        simulated.console_url = lambda vm_id: f"wss://{ELSEWHERE}:{port}/console"  # type: ignore[method-assign]
        simulated.console_options = AsyncMock(return_value={"ssl": tls.context, "server_hostname": tls.name})  # type: ignore[method-assign]
        await secured.running.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
        await secured.running.until("web1", "running")
        url = f"ws://127.0.0.1:{secured.port}/v1/vms/web1/console"
        async with connect(url, proxy=None, additional_headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}) as socket:
            await answers(socket)
            yield socket


async def answers(socket: ClientConnection) -> None:
    await socket.send(b"uptime\n")
    assert await asyncio.wait_for(socket.recv(), 5) == b"uptime\n"


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come to that")


async def rotation(running: Running) -> dict[str, HostRotation]:
    found: Rotation = await running.admin.send(calls.rotation())
    return {one.name: one for one in found.hosts}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("service", "joining"):
        monkeypatch.setattr(f"nqrust.manager.hosts.{module}.HEARTBEAT_SECONDS", 1)


# --- certificates
async def test_certificates_rotate_under_an_open_console_and_heartbeats(secured: Secured, joined: Agent) -> None:
    before, own, ui = joined.known.identity, secured.trust._issued.pair.certificate, Path(str(secured.trust._files.ui))
    of_ui, seen = ui.read_text(), []
    async with joined.running(), console(secured, joined) as socket:
        seen.append((await secured.host(joined.known.host_id)).last_seen_at)
        begun = await secured.running.admin.send(calls.rotate_certificates())
        assert [one.certificate for one in begun.hosts] == [False]
        await until(lambda: joined.known.identity != before)
        await answers(socket)
        for _ in range(100):
            if (await rotation(secured.running))["kvm1"].certificate:
                break
            await asyncio.sleep(0.05)
        assert (await rotation(secured.running))["kvm1"].certificate
        assert joined.link.registered
        after = joined.known.identity
        assert before and after and after.certificate != before.certificate and after.key != before.key
        shown = await asyncio.to_thread(ssl.get_server_certificate, (ELSEWHERE, secured.port))
        assert shown.split() == secured.trust._issued.pair.certificate.split() != own.split()
        assert ui.read_text() != of_ui
        await asyncio.sleep(1.5)
        assert joined.known.identity == after, "once is enough"
        assert (await secured.host(joined.known.host_id)).last_seen_at > seen[0]
        await answers(socket)


async def test_agent_that_died_before_it_stored_its_certificate_gets_another(secured: Secured, joined: Agent) -> None:
    await secured.running.admin.send(calls.rotate_certificates())
    before = joined.known
    await joined.link._renew(joined.known)
    joined.store.save(before)  # it was killed before the file was written
    assert not (await rotation(secured.running))["kvm1"].certificate
    joined.link.registered = True
    await joined.link._heartbeat()
    assert joined.known.identity != before.identity
    assert (await rotation(secured.running))["kvm1"].certificate


# --- tokens
async def beats(secured: Secured, agent: Agent, token: str) -> int:
    """The answer to a heartbeat with this token and the agent's certificate."""
    identity = agent.known.identity
    assert identity is not None
    own = contexts.client(identity.authority, identity.certificate, identity.key)
    own.check_hostname = False
    path = f"/v1/hosts/{agent.known.host_id}/heartbeat"
    return (await secured.ask("POST", path, token, tls=own, body=agent.beat().model_dump(mode="json"))).status_code


async def test_tokens_of_hosts_rotate_under_an_open_console(secured: Secured, joined: Agent) -> None:
    before = joined.known
    former = (await secured.host(before.host_id)).command_token
    async with joined.running(), console(secured, joined) as socket:
        begun = await secured.running.admin.send(calls.rotate_tokens())
        assert [one.tokens for one in begun.hosts] == [False]
        await until(lambda: joined.known.agent_token != before.agent_token)
        for _ in range(100):
            if (await rotation(secured.running))["kvm1"].tokens:
                break
            await asyncio.sleep(0.05)
        assert (await rotation(secured.running))["kvm1"].tokens
        now = (await secured.host(before.host_id)).command_token
        assert now != former and hash_token(now) == joined.known.command_token_sha256
        await until(lambda: not joined.known.former_command_token_sha256)
        await answers(socket)
        assert joined.link.registered
    assert await beats(secured, joined, before.agent_token) == 401
    assert await beats(secured, joined, joined.known.agent_token) == 200


async def test_former_tokens_are_good_until_the_new_one_is_used(secured: Secured, joined: Agent) -> None:
    before = joined.known
    await secured.running.admin.send(calls.rotate_tokens())
    await joined.link._renew_tokens(joined.known)
    former, new = hash_token((await secured.host(before.host_id)).command_token), joined.known
    assert former == before.command_token_sha256 != new.command_token_sha256
    assert joined.store.command_hashes() == (new.command_token_sha256, former), "the manager may come with either"
    assert await beats(secured, joined, before.agent_token) == 200
    assert await beats(secured, joined, new.agent_token) == 200
    assert await beats(secured, joined, before.agent_token) == 401
    assert hash_token((await secured.host(before.host_id)).command_token) == new.command_token_sha256


async def test_agent_that_died_before_it_stored_its_tokens_gets_others(secured: Secured, joined: Agent) -> None:
    await secured.running.admin.send(calls.rotate_tokens())
    before = joined.known
    await joined.link._renew_tokens(joined.known)
    lost = joined.known.agent_token
    joined.store.save(before)
    joined.link.registered = True
    await joined.link._heartbeat()
    assert joined.known.agent_token not in (before.agent_token, lost)
    assert (await rotation(secured.running))["kvm1"].tokens
    assert await beats(secured, joined, lost) == 401


async def test_host_gets_no_tokens_of_another_one(secured: Secured, joined: Agent, tmp_path: Path) -> None:
    other = Agent(tmp_path / "kvm2", secured.base, await secured.join_token("kvm2"))
    async with other.running():
        pass
    identity = joined.known.identity
    assert identity is not None
    own = contexts.client(identity.authority, identity.certificate, identity.key)
    own.check_hostname = False
    path = f"/v1/hosts/{other.known.host_id}/tokens"
    assert (await secured.ask("POST", path, joined.known.agent_token, tls=own)).status_code == 403


async def test_installers_tokens_are_read_again_and_consoles_of_the_former_stay(
    secured: Secured, joined: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nqrust.manager.vms.console.CHECK_SECONDS", 0.2)
    made = await secured.running.admin.send(calls.create_token(TokenCreate(name="ci", role=Role.viewer)))
    path = Path(str(secured.running.core.settings.bootstrap_file))
    wanted, new, join = json.loads(path.read_text()), new_token(), new_token()
    async with joined.running(), console(secured, joined) as socket:
        wanted["tokens"][0]["sha256"], wanted["join_tokens"][0]["sha256"] = hash_token(new), hash_token(join)
        beside = path.with_suffix(".new")
        beside.write_text("{")
        beside.rename(path)  # a damaged file changes nothing
        await asyncio.sleep(1.5)
        await secured.running.admin.send(calls.list_hosts())
        beside.write_text(json.dumps(wanted))
        beside.rename(path)
        await asyncio.sleep(2.5)
        with pytest.raises(Refused):
            await secured.running.admin.send(calls.list_hosts())
        await secured.running.client(new).send(calls.list_hosts())
        await secured.running.client(made.token).send(calls.list_hosts())
        await answers(socket)
    registered = await secured.running.client(join).send(calls.register(host_body("h1")))
    assert registered.agent_token


async def test_only_administrators_rotate(secured: Secured, joined: Agent) -> None:
    paths = [("/v1/rotation", "GET"), *((f"/v1/rotation/{what}", "POST") for what in ("certificates", "tokens"))]
    for path, method in paths:
        operator = await secured.running.role("operator")
        answer = await operator._http.request(method, path)
        assert answer.status_code == 403
