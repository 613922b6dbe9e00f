"""The HTTP faces: who may speak, how errors look, what a guest may send."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
import structlog
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from nqrust.agent.api import app as agent_api
from nqrust.agent.api import console, listeners, relay, viewers
from nqrust.agent.api.listeners import Server, bind
from nqrust.agent.errors import Failed
from nqrust.agent.vms.guests import RateLimit
from nqrust.client.agent import AgentClient, AgentRefused, AgentUnreachable
from nqrust.contract.agent import VmSpec, VmStatus
from nqrust.contract.credentials import hash_token
from nqrust.contract.guest import CloseCode
from nqrust.contract.problem import MEDIA_TYPE
from nqrust.serving.connections import Bounds

from .conftest import VM, Bench

COMMAND, LOCAL = "nqr_command", "nqr_local"


class Face:
    """The app with what the manager gave it, as it changes."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.command_hash = bench, hash_token(COMMAND)
        self.app = agent_api.build(
            bench.service,
            agent_api.Verbs(4),
            host_id=lambda: "h1" if self.command_hash else None,
            command_hashes=lambda: (self.command_hash,),
            local_hash=hash_token(LOCAL),
        )

    def client(self, token: str, source: str = "192.0.2.7") -> AgentClient:
        return AgentClient("http://agent", token, transport=httpx.ASGITransport(self.app, client=(source, 1)))

    def raw(self, source: str = "192.0.2.7") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(source, 1))
        return httpx.AsyncClient(transport=transport, base_url="http://agent")


@pytest.fixture
def face(bench: Bench) -> Face:
    return Face(bench)


async def test_vms_that_wait_for_a_download_keep_no_other_request_waiting(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, goes_on = threading.Barrier(6), threading.Event()  # more than the app has threads for other requests

    def put(spec: VmSpec) -> VmStatus:
        begun.wait(10)
        goes_on.wait(10)
        raise Failed("NQR-IMG-101", "It cannot be fetched.", "Try again.")

    monkeypatch.setattr(face.bench.service, "put", put)
    async with face.client(COMMAND) as client:
        waiting = [asyncio.ensure_future(client.put_vm(face.bench.spec(f"vm{number}"))) for number in range(5)]
        try:
            await asyncio.to_thread(begun.wait, 10)
            assert (await asyncio.wait_for(client.inventory(), 5)).vms == []
        finally:
            goes_on.set()
            await asyncio.gather(*waiting, return_exceptions=True)


async def test_every_route_but_health_needs_a_token(face: Face) -> None:
    refused = 0
    async with face.raw() as http:
        for path, verbs in face.app.openapi()["paths"].items():
            for verb in verbs:
                answer = await http.request(verb, path.replace("{vm_id}", VM).replace("{name}", "tap0"))
                if path == "/agent/v1/health":
                    assert answer.status_code == 200
                    continue
                assert answer.status_code == 401, path
                assert answer.headers["content-type"] == MEDIA_TYPE
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.json()["code"] == "NQR-API-701"
                refused += 1
        assert (await http.get("/nothing")).status_code == 401
        assert (await http.get("/agent/v1/openapi.json")).status_code == 401
        assert (await http.get("/agent/v1/inventory", headers={"Authorization": "Bearer wrong"})).status_code == 401
        assert (await http.get("/agent/v1/inventory", headers={"Authorization": f"Basic {COMMAND}"})).status_code == 401
    assert refused >= 9


async def test_the_local_token_works_from_this_host_only(face: Face) -> None:
    assert (await face.client(LOCAL, "127.0.0.1").inventory()).host_id == "h1"
    assert (await face.client(LOCAL, "::1").inventory()).host_id == "h1"
    with pytest.raises(AgentRefused) as refused:
        await face.client(LOCAL, "10.0.0.20").inventory()
    assert refused.value.status == 401


async def test_before_registration_only_root_of_this_host_may_speak(face: Face) -> None:
    face.command_hash = ""
    with pytest.raises(AgentRefused):
        await face.client(COMMAND).inventory()
    with pytest.raises(AgentRefused):
        await face.client("").inventory()
    assert (await face.client(LOCAL, "127.0.0.1").inventory()).vms == []
    assert not (await face.client("", "127.0.0.1").health()).registered


async def test_a_vms_life_over_the_client(face: Face) -> None:
    async with face.client(COMMAND) as client:
        assert await client.get_vm(VM) is None
        assert (await client.put_vm(face.bench.spec())).state == "running"
        assert (await client.pause_vm(VM)).state == "paused"
        assert (await client.resume_vm(VM)).state == "running"
        (face.bench.vm_dir() / "console.log").write_bytes(b"login: ")
        assert await client.console_log(VM) == "login: "
        assert (await client.stop_vm(VM)).state == "stopped"
        await client.delete_vm(VM)
        await client.delete_vm(VM)
        assert await client.get_vm(VM) is None
        with pytest.raises(AgentRefused) as refused:
            await client.stop_vm(VM)
        assert (refused.value.status, refused.value.problem.code) == (404, "NQR-API-702")


async def test_each_verb_carries_the_generation_of_its_row(face: Face) -> None:
    async with face.client(COMMAND) as client:
        await client.put_vm(face.bench.spec(generation=1))
        assert (await client.pause_vm(VM, 2)).generation == 2
        assert (await client.resume_vm(VM, 3)).generation == 3
        assert (await client.stop_vm(VM, None, 4)).generation == 4
        await client.create_snapshot(VM, "s1", generation=5)
        assert (await client.restore_snapshot(VM, "s1", 6, "a request")).generation == 6
        await client.delete_snapshot(VM, "s1", 7)
        with pytest.raises(AgentRefused) as refused:
            await client.stop_vm(VM, None, 6)
        assert (refused.value.status, refused.value.problem.code) == (409, "NQR-API-705")
        assert '"restored": "a request"' in (face.bench.vm_dir() / "vm.json").read_text()


async def test_a_snapshot_carries_the_identity_of_its_request(face: Face) -> None:
    async with face.client(COMMAND) as client:
        await client.put_vm(face.bench.spec(run=False))
        assert (first := await client.create_snapshot(VM, "s1", "one")) == await client.create_snapshot(VM, "s1", "one")
        assert (await client.create_snapshot(VM, "s1", "two")).created_at > first.created_at
        with pytest.raises(AgentRefused) as refused:
            await client.create_snapshot(VM, "s1", "x" * 65)
        assert refused.value.status == 422


async def test_many_puts_at_once_start_one_vmm(face: Face) -> None:
    async with face.client(COMMAND) as client:
        answers = await asyncio.gather(*(client.put_vm(face.bench.spec()) for _ in range(8)))
    assert len({tuple(answer.pids) for answer in answers}) == 1
    assert len(face.bench.scopes.spawned) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", f"/agent/v1/vms/{VM}", {}, 422),
        ("PUT", f"/agent/v1/vms/{VM}", [1], 422),
        ("GET", "/agent/v1/nothing", None, 404),
        ("PATCH", "/agent/v1/inventory", None, 405),
        ("GET", "/agent/v1/vms/..%2f..%2fetc", None, 404),
        ("DELETE", "/agent/v1/vms/-x", None, 422),
        ("POST", f"/agent/v1/vms/{VM}/stop", {"timeout_seconds": -1}, 422),
    ],
)
async def test_errors_are_problems_with_code_and_cure(face: Face, method: str, path: str, body: Any, status: int) -> None:
    async with face.raw() as http:
        answer = await http.request(method, path, json=body, headers={"Authorization": f"Bearer {COMMAND}"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, MEDIA_TYPE)
    problem = answer.json()
    assert problem["code"].startswith("NQR-")
    assert problem["cure"]
    assert problem["request_id"] == answer.headers["x-request-id"]


async def test_the_id_of_path_and_body_must_be_one(face: Face) -> None:
    async with face.raw() as http:
        answer = await http.put(
            "/agent/v1/vms/other", json=face.bench.spec().model_dump(mode="json"), headers={"Authorization": f"Bearer {COMMAND}"}
        )
    assert answer.status_code == 422


async def test_an_error_of_our_own_is_a_problem_too(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face.bench.service, "inventory", lambda host_id: 1 / 0)
    async with face.raw() as http:
        answer = await http.get("/agent/v1/inventory", headers={"Authorization": f"Bearer {COMMAND}"})
    assert (answer.status_code, answer.json()["code"]) == (500, "NQR-API-710")
    assert "division" not in answer.text


async def test_metrics_count_vms_by_state(face: Face) -> None:
    face.bench.service.put(face.bench.spec())
    async with face.raw() as http:
        text = (await http.get("/metrics", headers={"Authorization": f"Bearer {COMMAND}"})).text
    assert 'nqrust_agent_vms{state="running"} 1.0' in text


async def test_an_agent_that_is_not_there() -> None:
    async with AgentClient("http://127.0.0.1:9", "t", timeout=1) as client:
        with pytest.raises(AgentUnreachable):
            await client.health()


@pytest.fixture
async def served(face: Face) -> AsyncIterator[str]:
    """The app behind a real socket, for what a WebSocket's refusal looks like from outside."""
    async with serving(face) as url:
        yield url


@asynccontextmanager
async def serving(face: Face) -> AsyncIterator[str]:
    listener = bind("127.0.0.1", 0)
    server = Server(face.app, [listener])
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await running


async def test_a_console_needs_a_token_and_a_vm_that_runs(face: Face, served: str) -> None:
    with pytest.raises(AgentRefused) as refused:
        async with AgentClient(served, "wrong").connect_console(VM):
            pass
    assert (refused.value.status, refused.value.problem.code) == (401, "NQR-API-701")
    for prepare, code in ((lambda: None, 4404), (lambda: face.bench.service.put(face.bench.spec(run=False)), 4409)):
        prepare()
        with pytest.raises(ConnectionClosedError) as closed:
            async with AgentClient(served, COMMAND).connect_console(VM) as socket:
                await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code
    with pytest.raises(AgentUnreachable):
        async with AgentClient("http://127.0.0.1:9", COMMAND, timeout=1).connect_console(VM):
            pass


async def test_consoles_and_sessions_leave_connections_for_control(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "BOUNDS", Bounds(local=12))
    monkeypatch.setattr(viewers, "MOST", 6)
    face.bench.service.put(face.bench.spec(run=False))
    async with serving(face) as url, AsyncExitStack() as stack:
        sockets = []
        for _ in range(14):  # sessions whose request does not come have a place, too
            client = await stack.enter_async_context(AgentClient(url, COMMAND))
            session = connect(client.exec_url(VM), proxy=None, **await client.console_options())
            sockets.append(await stack.enter_async_context(session))
            await asyncio.sleep(0.02)
        ends = [socket.close_code for socket in sockets]
        assert ends == [None] * 6 + [CloseCode.too_many] * 8
        for _ in range(6):
            client = await stack.enter_async_context(AgentClient(url, COMMAND))
            assert (await client.inventory()).host_id == "h1"
        await sockets[0].close()
        await asyncio.sleep(0.1)
        async with connect(client.exec_url(VM), proxy=None, **await client.console_options()) as another:
            await asyncio.sleep(0.1)
            assert another.close_code is None


# --- the guests' side


@pytest.fixture
async def guest(bench: Bench) -> AsyncIterator[tuple[httpx.AsyncClient, list[Any]]]:
    bench.service.put(bench.spec())
    forwarded: list[Any] = []

    async def run(work: Any) -> Any:
        return await asyncio.to_thread(work)

    app = relay.build(bench.service.guests, run, lambda vm, report: forwarded.append((vm, report)), RateLimit(rate=0, burst=8))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("10.0.0.20", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://relay") as http:
        yield http, forwarded


REPORT = {"ip": "10.0.0.20", "boot_id": "b1"}
PATH = f"/v1/vms/{VM}/guest-ip"
GOOD = {"Authorization": "Bearer token-1"}


async def test_a_report_is_kept_and_passed_on(guest: tuple[httpx.AsyncClient, list[Any]], bench: Bench) -> None:
    http, forwarded = guest
    assert (await http.post(PATH, json=REPORT, headers=GOOD)).status_code == 204
    status = bench.service.status(VM)
    assert status.guest is not None
    assert status.guest.boot_id == "b1"
    assert [vm for vm, _ in forwarded] == [VM]


async def test_what_a_stranger_sends_is_refused(guest: tuple[httpx.AsyncClient, list[Any]]) -> None:
    http, forwarded = guest
    assert (await http.post(PATH, json=REPORT)).status_code == 401
    assert (await http.post(PATH, json=REPORT, headers={"Authorization": "Bearer x"})).status_code == 401
    assert (await http.post("/v1/vms/other/guest-ip", json=REPORT, headers=GOOD)).status_code == 401
    assert (await http.post(PATH, content=b"x" * 9000, headers=GOOD)).status_code == 413
    assert (await http.post(PATH, content=b"{", headers=GOOD)).status_code == 422
    assert (await http.get("/agent/v1/inventory", headers=GOOD)).status_code == 404
    assert not forwarded


async def test_a_guest_writes_few_lines_into_the_log(guest: tuple[httpx.AsyncClient, list[Any]]) -> None:
    http, _ = guest
    with structlog.testing.capture_logs() as told:
        for _ in range(60):
            assert (await http.post(f"/v1/vms/{'x' * 60}/guest-ip/{'y' * 3000}", json=REPORT)).status_code == 404
            assert (await http.post(PATH, json=REPORT)).status_code in (401, 429)
    lines = [line for line in told if line["event"].startswith("request.")]
    assert 1 <= len(lines) <= 10
    assert sum(len(str(line)) for line in lines) < 5000


@pytest.mark.parametrize(
    "poison",
    [
        '"cpu_percent":NaN',
        '"uptime_seconds":1e999',
        '"uptime_seconds":-1',
        f'"memory_available_kib":{"9" * 400}',
        '"net_rx_bytes":-1',
        '"ip":"nowhere"',
        '"ip":"fe80::1%\\u001b[2J"',
        '"boot_id":"\\u0000"',
        '"boot_id":"' + "b" * 65 + '"',
        '"hostname":"\\u0000"',
        '"hostname":"\\ud800"',
        '"gateway":"\\u001b[2J"',
    ],
)
async def test_what_others_cannot_read_or_write_down_is_refused(guest: tuple[httpx.AsyncClient, list[Any]], poison: str) -> None:
    http, forwarded = guest
    body = f'{{"ip":"10.0.0.20","boot_id":"b1",{poison}}}'  # of two values of one name the last counts
    assert (await http.post(PATH, content=body.encode(), headers=GOOD)).status_code == 422
    assert not forwarded


async def test_all_that_the_guest_agent_sends_is_taken(guest: tuple[httpx.AsyncClient, list[Any]]) -> None:
    http, forwarded = guest
    usual = {
        "boot_id": "0b8f0c3e-5f0e-4a53-9f4e-6a1d2a8f7c11",
        "uptime_seconds": 12.34,
        "cpu_percent": 100.0,
        "memory_total_kib": 2**40,
        "gateway": "10.0.0.1",
        "gateway_reachable": None,
        "hostname": "höst (none)",
    }
    assert (await http.post(PATH, json=REPORT | usual, headers=GOOD)).status_code == 204
    assert (await http.post(PATH, json=REPORT | {"boot_id": ""}, headers=GOOD)).status_code == 204, "/proc was not readable"
    assert len(forwarded) == 2


async def test_a_source_that_floods_is_slowed(guest: tuple[httpx.AsyncClient, list[Any]]) -> None:
    http, _ = guest
    statuses = [(await http.post(PATH, json=REPORT, headers=GOOD)).status_code for _ in range(10)]
    assert statuses == [204] * 8 + [429] * 2


def test_the_rate_limit_refills_and_its_table_is_bounded() -> None:
    limit = RateLimit(rate=1, burst=2, sources=3)
    assert [limit.allows("a", 0.0) for _ in range(3)] == [True, True, False]
    assert limit.allows("a", 1.0)
    for n in range(100):
        limit.allows(f"s{n}", 2.0)
    assert len(limit._buckets) <= 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps({"type": "resize", "rows": 50, "columns": 132}), (50, 132)),
        ("ls\r", None),
        ("{", None),
        ('{"type":"resize"}', None),
        ('{"a":1}', None),
        ('{"type":"resize","rows":"x","columns":1}', None),
        ('{"type":"resize","rows":1e999,"columns":1}', None),
        ('{"type":' * 200_000, None),
    ],
)
def test_resize_messages(text: str, expected: tuple[int, int] | None) -> None:
    assert console.resize(text) == expected
