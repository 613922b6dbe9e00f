"""Registration, heartbeat, guest reports and images against a small manager on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nqrust.agent import server
from nqrust.agent.errors import Failed
from nqrust.agent.link import manager_link
from nqrust.agent.link.credentials import CredentialStore
from nqrust.agent.link.manager_link import ManagerLink
from nqrust.contract.agent import Inventory
from nqrust.contract.credentials import hash_token
from nqrust.contract.hosts import Heartbeat, HostCapacity, HostNetwork, HostRegister
from nqrust.contract.images import Blob
from nqrust.contract.vms import GuestReport
from nqrust.host.local import LocalHost

CAPACITY = HostCapacity(cpus=2, memory_mib=1024)
JOIN = "nqr_join"


class FakeManager:
    """Register agents with a join token or with the token that it issued. It can be switched off, and can forget."""

    def __init__(self, port: int = 0) -> None:
        self.tokens: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        self.reports: list[dict[str, object]] = []
        self.blob = b"kernel"
        self.heartbeat_seconds = 1
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(*fake.post(self.path, self.headers["Authorization"].removeprefix("Bearer "), body))

            def do_GET(self) -> None:
                known = self.headers["Authorization"].removeprefix("Bearer ") in fake.tokens
                self._answer(200 if known else 401, fake.blob)

            def _answer(self, status: int, data: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def post(self, path: str, token: str, body: dict[str, object]) -> tuple[int, bytes]:
        self.calls.append((path, token))
        if token != JOIN and token not in self.tokens:
            return 401, b"{}"
        if path == "/v1/hosts/register":
            answer: dict[str, object] = {"host_id": "h1", "heartbeat_seconds": self.heartbeat_seconds}
            if token == JOIN:
                self.tokens.add(f"agent-{len(self.tokens)}")
                answer |= {"agent_token": f"agent-{len(self.tokens) - 1}", "command_token": "command"}
            return 200, json.dumps(answer).encode()
        if path.endswith("/guest"):
            self.reports.append(body)
        return 200, b'{"host_id": "h1"}'

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def manager() -> Iterator[FakeManager]:
    fake = FakeManager()
    yield fake
    fake.close()


@pytest.fixture
async def link(manager: FakeManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ManagerLink]:
    monkeypatch.setattr(manager_link, "_FIRST", 0.05)
    (tmp_path / "join").write_text(JOIN + "\n")
    made = new_link(manager.base, tmp_path)
    yield made


def new_link(base: str, tmp_path: Path) -> ManagerLink:
    host = LocalHost()
    return ManagerLink(
        host,
        base,
        CredentialStore(host, str(tmp_path / "credentials.json")),
        str(tmp_path / "join"),
        lambda: HostRegister(
            name="n1",
            advertise_url="http://127.0.0.1:19090",
            version="0",
            boot_id="b",
            vmm="qemu",
            accel="tcg",
            kvm=False,
            capacity=CAPACITY,
            network=HostNetwork(bridge="fcbr0"),
        ),
        lambda: Heartbeat(version="0", boot_id="b", capacity=CAPACITY),
    )


@contextlib.asynccontextmanager
async def running(link: ManagerLink) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(link.run()), asyncio.create_task(link.run_forwarding())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], object], seconds: float = 8.0) -> None:
    async with asyncio_timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def asyncio_timeout(seconds: float) -> AsyncIterator[None]:
    """asyncio.timeout, which Python 3.10 lacks."""
    task = asyncio.current_task()
    assert task is not None
    handle = asyncio.get_running_loop().call_later(seconds, task.cancel)
    try:
        yield
    finally:
        handle.cancel()


@pytest.mark.parametrize("status", [401, 403, 409])
async def test_agent_that_the_manager_no_longer_knows_names_the_cure(
    manager: FakeManager, link: ManagerLink, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int
) -> None:
    await link._register()
    monkeypatch.setattr(manager, "post", lambda path, token, body: (status if token == JOIN else 401, b"used"))
    with pytest.raises(manager_link.Refused, match=r"`nqr host token n1 --replace`.*used") as refused:
        await link._register()
    assert refused.value.status == status
    (tmp_path / "join").unlink()
    with pytest.raises(manager_link.Refused, match=r"`nqr host token n1 --replace`.*join token is missing"):
        await link._register()


async def test_the_first_registration_uses_the_join_token_and_keeps_what_it_gets(
    manager: FakeManager, link: ManagerLink, tmp_path: Path
) -> None:
    async with running(link):
        await until(lambda: any(path.endswith("/heartbeat") for path, _ in manager.calls))
    assert manager.calls[0] == ("/v1/hosts/register", JOIN)
    assert manager.calls[1] == ("/v1/hosts/h1/heartbeat", "agent-0")
    stored = tmp_path / "credentials.json"
    assert stored.stat().st_mode & 0o777 == 0o600
    assert json.loads(stored.read_text())["command_token_sha256"] == hash_token("command")
    assert '"command"' not in stored.read_text()


async def test_the_first_heartbeat_follows_the_registration_at_once(manager: FakeManager, link: ManagerLink) -> None:
    """From then on the manager accepts the join token no more."""
    manager.heartbeat_seconds = 3600
    async with running(link):
        await until(lambda: ("/v1/hosts/h1/heartbeat", "agent-0") in manager.calls)


async def test_later_registrations_use_the_agents_own_token(manager: FakeManager, link: ManagerLink, tmp_path: Path) -> None:
    async with running(link):
        await until(lambda: link.registered)
    before = (tmp_path / "credentials.json").read_bytes()
    (tmp_path / "join").unlink()
    again = new_link(manager.base, tmp_path)
    async with running(again):
        await until(lambda: again.registered)
    assert ("/v1/hosts/register", "agent-0") in manager.calls and manager.calls.count(("/v1/hosts/register", JOIN)) == 1
    assert (tmp_path / "credentials.json").read_bytes() == before


async def test_a_manager_that_forgot_us_is_joined_again(manager: FakeManager, link: ManagerLink) -> None:
    async with running(link):
        await until(lambda: link.registered)
        manager.tokens.clear()
        manager.tokens.add("someone else's")
        await until(lambda: "agent-1" in manager.tokens and link.registered)


async def test_a_manager_that_is_away_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_link, "_FIRST", 0.05)
    (tmp_path / "join").write_text(JOIN)
    away = FakeManager()
    away.close()
    link = new_link(away.base, tmp_path)
    async with running(link):
        await asyncio.sleep(0.3)
        assert not link.registered
        back = FakeManager(away.server.server_port)
        try:
            await until(lambda: link.registered)
        finally:
            back.close()


async def test_without_a_join_token_it_says_where_to_get_one(manager: FakeManager, link: ManagerLink, tmp_path: Path) -> None:
    (tmp_path / "join").unlink()
    async with running(link):
        await asyncio.sleep(0.3)
        assert not link.registered
        assert not manager.calls
        (tmp_path / "join").write_text(JOIN)
        await until(lambda: link.registered)


async def test_guest_reports_reach_the_manager(manager: FakeManager, link: ManagerLink) -> None:
    async with running(link):
        await until(lambda: link.registered)
        link.forward("a1", GuestReport(ip="10.0.0.20", boot_id="b1"))
        await until(lambda: manager.reports)
    assert manager.reports[0]["report"]["ip"] == "10.0.0.20"  # type: ignore[index]


async def test_a_report_that_cannot_be_sent_keeps_no_other_back(manager: FakeManager, link: ManagerLink) -> None:
    unfit = GuestReport.model_construct(ip="10.0.0.20", boot_id="b1", cpu_percent=float("nan"))
    async with running(link):
        await until(lambda: link.registered)
        link.forward("a1", unfit)
        link.forward("a2", GuestReport(ip="10.0.0.21", boot_id="b2"))
        await until(lambda: manager.reports)
    assert manager.reports[0]["report"]["ip"] == "10.0.0.21"  # type: ignore[index]


async def test_what_ends_by_itself_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_AGAIN", 0.0)
    begun: list[int] = []

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) == 1:
            raise ValueError("nobody thought of that")
        if len(begun) > 2:
            await asyncio.Event().wait()

    task = asyncio.create_task(server._lasting(work))
    await until(lambda: len(begun) == 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


def test_a_report_that_is_unfit_hides_neither_vm_nor_host() -> None:
    vm = {"id": "a1", "state": "running", "scope": "fc-a1"}
    good = {"ip": "10.0.0.21", "boot_id": "b", "made_up_since": 1}
    found = Inventory.model_validate_json(
        json.dumps(
            {
                "host_id": "h1",
                "boot_id": "b",
                "time": "2026-01-01T00:00:00Z",
                "vms": [vm | {"guest": {"ip": "10.0.0.20", "boot_id": "b", "cpu_percent": None}}, vm | {"guest": good}],
                "taps": [],
                "volumes": [],
            }
        )
    )
    assert found.vms[0].guest is None
    assert found.vms[1].guest is not None


async def test_an_image_is_fetched_with_our_own_token(manager: FakeManager, link: ManagerLink, tmp_path: Path) -> None:
    blob = Blob(file="vmlinuz", size=6, sha256=hashlib.sha256(b"kernel").hexdigest())
    with pytest.raises(Failed) as failed:
        link.fetch("tiny", blob, str(tmp_path / "out"))
    assert failed.value.code == "NQR-IMG-101"
    async with running(link):
        await until(lambda: link.registered)
    await asyncio.to_thread(link.fetch, "tiny", blob, str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b"kernel"
    manager.blob = b"kernel and more"
    with pytest.raises(Failed, match="larger than announced"):
        await asyncio.to_thread(link.fetch, "tiny", blob, str(tmp_path / "out"))
