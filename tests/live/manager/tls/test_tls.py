"""Manager and agents over TLS: who is let in, renewal, revocation, and the manager as a client of an agent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from tests.live.manager.conftest import ADMIN_TOKEN, Running, host_body
from tests.live.manager.test_access import routes
from tests.live.manager.tls.conftest import ELSEWHERE, Agent, Secured, authority_files, serve
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from nqrust.agent.api.auth import Authentication
from nqrust.agent.api.listeners import Server as AgentServer
from nqrust.client import calls
from nqrust.client.agent import AgentClient, AgentRefused, AgentUnreachable, Tls
from nqrust.contract.credentials import hash_token
from nqrust.manager.core.trust import Trust, identity_of
from nqrust.manager.settings import TlsFiles
from nqrust.manager.store.tables import Host
from nqrust.tls import authority, contexts


# --- who may come
@pytest.mark.parametrize("path", ["/v1/vms", "/v1/hosts", "/health", "/docs"])
async def test_plain_http_from_elsewhere_is_refused(secured: Secured, path: str) -> None:
    answer = await secured.ask("GET", path, ADMIN_TOKEN)
    assert (answer.status_code, answer.json()["code"]) == (426, "NQR-API-150")


async def test_browser_is_sent_on_to_https(secured: Secured) -> None:
    answer = await secured.ask("GET", "/docs?a=b", "")
    assert (answer.status_code, answer.headers["location"]) == (308, f"https://{ELSEWHERE}:{secured.port}/docs?a=b")


async def test_join_token_over_plain_http_is_refused(secured: Secured) -> None:
    token = (await secured.join_token("kvm9")).partition(".")[0]
    body = host_body("kvm9").model_dump(mode="json")
    answer = await secured.ask("POST", "/v1/hosts/register", token, body=body)
    assert (answer.status_code, answer.json()["code"]) == (426, "NQR-API-150")


async def test_same_port_answers_plain_http_on_loopback(secured: Secured) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        assert (await client.get(f"http://127.0.0.1:{secured.port}/v1/vms", headers=headers)).status_code == 200


async def test_users_need_no_certificate(secured: Secured) -> None:
    tls = contexts.client(secured.trust.trusted)
    tls.check_hostname = False  # 127.0.0.2 is no address of an interface
    assert (await secured.ask("GET", "/v1/vms", ADMIN_TOKEN, tls=tls)).status_code == 200


def stolen(secured: Secured, joined: Agent) -> Iterator[tuple[str, ssl.SSLContext]]:
    trusted = secured.trust.trusted
    yield "no certificate", contexts.client(trusted)
    other = authority.Authority(authority.Pair(trusted, Path(secured.trust._files.authority_key).read_text()))
    for what, name in (("another host's", "h-2-1"), ("the manager's", ""), ("a former", f"{joined.known.host_id}-0")):
        made = other.issue([contexts.agent_name(name) if name else contexts.MANAGER_NAME])
        yield what, contexts.client(trusted, made.certificate, made.key)


async def test_stolen_token_is_worth_nothing_without_the_certificate(secured: Secured, joined: Agent) -> None:
    identity = joined.known.identity
    assert identity is not None
    path = f"/v1/hosts/{joined.known.host_id}/heartbeat"
    beat = joined.beat().model_dump(mode="json")
    for what, tls in stolen(secured, joined):
        tls.check_hostname = False
        answer = await secured.ask("POST", path, joined.known.agent_token, tls=tls, body=beat)
        assert (answer.status_code, answer.json()["code"]) == (401, "NQR-API-101"), what
        with pytest.raises(InvalidStatus) as refused:
            url = f"wss://{ELSEWHERE}:{secured.port}/v1/vms/web1/console"
            headers = {"Authorization": f"Bearer {joined.known.agent_token}"}
            await connect(url, proxy=None, additional_headers=headers, ssl=tls)
        assert refused.value.response.status_code == 401, what
    own = contexts.client(identity.authority, identity.certificate, identity.key)
    own.check_hostname = False
    assert (await secured.ask("POST", path, joined.known.agent_token, tls=own, body=beat)).status_code == 200
    assert (await secured.ask("POST", path, "nqr_wrong", tls=own, body=beat)).status_code == 401


async def test_certificate_of_another_authority_is_refused(secured: Secured, joined: Agent, tmp_path: Path) -> None:
    other = authority.new_authority("ca")
    made = authority.Authority(other).issue([contexts.agent_name(f"{joined.known.host_id}-1")])
    tls = contexts.client(secured.trust.trusted, made.certificate, made.key)
    tls.check_hostname = False
    with pytest.raises(httpx.HTTPError):
        await secured.ask("GET", "/v1/vms", ADMIN_TOKEN, tls=tls)


# --- renewal and revocation
async def test_certificate_is_renewed_in_time(secured: Secured, joined: Agent) -> None:
    before = joined.known.identity
    assert before is not None
    joined.store.save(
        joined.known.model_copy(
            update={"identity": before.model_copy(update={"ends": datetime.now(timezone.utc) + timedelta(days=1)})}
        )
    )
    joined.link.registered = True
    await joined.link._heartbeat()
    after = joined.known.identity
    assert after is not None and after.certificate != before.certificate and after.key != before.key
    assert after.ends - datetime.now(timezone.utc) > timedelta(days=89)
    assert (await secured.host(joined.known.host_id)).identity == 1


async def test_join_revokes_the_former_certificate(secured: Secured, joined: Agent, tmp_path: Path) -> None:
    former = joined.known
    async with secured.running.core.db.transaction() as session:
        host = await session.get(Host, former.host_id)
        host.last_seen_at = datetime.now(timezone.utc) - timedelta(hours=1)
    again = Agent(tmp_path / "kvm1-again", secured.base, await secured.join_token("kvm1", replace=True))
    again.name = "kvm1"
    async with again.running():
        assert again.known.host_id == former.host_id
    assert identity_of(await secured.host(former.host_id)) == contexts.agent_name(f"{former.host_id}-2")
    assert former.identity is not None
    old = contexts.client(former.identity.authority, former.identity.certificate, former.identity.key)
    old.check_hostname = False
    path = f"/v1/hosts/{former.host_id}/heartbeat"
    answer = await secured.ask("POST", path, again.known.agent_token, tls=old, body=again.beat().model_dump(mode="json"))
    assert answer.status_code == 401


async def test_manager_renews_its_own_certificates_and_the_uis(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    trust = secured.trust
    ui = Path(str(trust._files.ui))
    before, published = trust._issued.pair.certificate, ui.read_text()
    assert ui.stat().st_mode & 0o777 == 0o640 and not trust.renew()
    monkeypatch.setattr("nqrust.manager.core.trust._names", lambda: ("localhost", "192.0.2.77"))
    assert trust.renew() and trust._issued.pair.certificate != before and ui.read_text() != published
    shown = await asyncio.to_thread(ssl.get_server_certificate, (ELSEWHERE, secured.port))
    assert shown.split() == trust._issued.pair.certificate.split()


async def test_own_certificate_is_shown_to_people_and_the_inner_one_to_agents(manager: Running, tmp_path: Path) -> None:
    files = authority_files(tmp_path, "ca")
    own = authority.Authority(authority.new_authority("of the company")).issue(["vms.example.org"])
    (tmp_path / "own.crt").write_text(own.certificate)
    (tmp_path / "own.key").write_text(own.key)
    trust = Trust(TlsFiles(files.authority, files.authority_key, own=(str(tmp_path / "own.crt"), str(tmp_path / "own.key"))))
    manager.core.trust = trust
    async with serve(manager.app, trust.context) as port:
        shown = await asyncio.to_thread(ssl.get_server_certificate, (ELSEWHERE, port))
        assert shown.split() == own.certificate.split()
        agent = Agent(
            tmp_path / "kvm4", f"https://{ELSEWHERE}:{port}", (await manager.admin.send(calls.join_token("kvm4", 600))).token
        )
        async with agent.running():
            assert agent.known.identity is not None


# --- the manager as a client of an agent
@contextlib.asynccontextmanager
async def agent_api(agent: Agent) -> AsyncIterator[int]:
    app = FastAPI()
    app.add_middleware(
        Authentication,
        command_hashes=lambda: (hash_token("command"),),
        local_hash=hash_token("local"),
        has_certificate=lambda: agent.link.channel.identity is not None,
    )

    @app.get("/agent/v1/vms/{vm_id}/console/log")
    async def log(vm_id: str) -> str:
        return vm_id

    listener = socket.create_server((ELSEWHERE, 0))
    server = AgentServer(app, [listener], agent.link.channel.server_context)
    running = asyncio.create_task(server.serve())
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await running


async def test_agent_answers_the_manager_and_nobody_else(secured: Secured, joined: Agent) -> None:
    towards = secured.trust.towards(await secured.host(joined.known.host_id))
    identity = joined.known.identity
    assert towards is not None and identity is not None
    as_agent = contexts.client(identity.authority, identity.certificate, identity.key)
    async with agent_api(joined) as port:
        async with AgentClient(f"https://{ELSEWHERE}:{port}", "command", tls=towards) as manager:
            assert await manager.console_log("v1") == '"v1"'
        async with AgentClient(f"https://{ELSEWHERE}:{port}", "command", tls=Tls(as_agent, towards.name)) as other:
            with pytest.raises(AgentRefused) as refused:
                await other.console_log("v1")
        assert refused.value.status == 401
        async with AgentClient(
            f"https://{ELSEWHERE}:{port}", "command", tls=Tls(contexts.client(identity.authority), towards.name)
        ) as other:
            with pytest.raises(AgentRefused):
                await other.console_log("v1")
        async with AgentClient(f"http://{ELSEWHERE}:{port}", "command") as plain:
            with pytest.raises(AgentRefused) as refused:
                await plain.console_log("v1")
        assert (refused.value.status, refused.value.problem.code) == (426, "NQR-API-712")


async def test_manager_speaks_to_no_other_agent(secured: Secured, joined: Agent) -> None:
    """An agent of the installation that answers at the address of another one gets no command."""
    towards = secured.trust.towards(await secured.host(joined.known.host_id))
    assert towards is not None
    async with agent_api(joined) as port:
        for name in (contexts.agent_name("h-2-1"), contexts.agent_name(f"{joined.known.host_id}-2")):
            async with AgentClient(f"https://{ELSEWHERE}:{port}", "command", tls=Tls(towards.context, name)) as client:
                with pytest.raises(AgentUnreachable):
                    await client.console_log("v1")


async def test_browsers_are_told_to_use_tls_only(secured: Secured) -> None:
    over_tls = await secured.ask("GET", "/health", "", tls=contexts.unchecked())
    assert over_tls.headers["strict-transport-security"] == "max-age=31536000"
    async with httpx.AsyncClient(trust_env=False) as client:
        here = await client.get(f"http://127.0.0.1:{secured.port}/health")
        proxied = await client.get(f"http://127.0.0.1:{secured.port}/health", headers={"X-Forwarded-Proto": "https"})
    assert "strict-transport-security" not in here.headers
    assert proxied.headers["strict-transport-security"] == "max-age=31536000"


async def test_every_route_answers_strangers_over_tls_as_it_does_over_plain_http(secured: Secured) -> None:
    known = routes(secured.running.app)
    assert len(known) >= 47
    transport = httpx.ASGITransport(app=secured.running.app, client=("127.0.0.1", 1))
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://manager") as plain,
        httpx.AsyncClient(
            verify=contexts.unchecked(), base_url=f"https://{ELSEWHERE}:{secured.port}", trust_env=False
        ) as over_tls,
    ):
        for method, path in known:
            concrete = path.replace("{", "").replace("}", "")
            statuses = [(await client.request(method, concrete)).status_code for client in (plain, over_tls)]
            assert statuses[0] == statuses[1], (method, path, statuses)
            assert statuses[1] == 401 or path in ("/health", "/v1/auth/login", "/v1/authority"), (method, path, statuses)
