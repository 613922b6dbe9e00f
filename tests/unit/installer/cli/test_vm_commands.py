"""nqr vm, image and host against a manager that answers over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nqrust.installer.cli.__main__ import run

VM = {
    "id": "v1", "name": "web1", "state": "running", "desired_state": "running", "host": "h1", "ip": "10.0.0.10",
    "mac": "06:4e:00:00:00:01", "boot_id": "b1", "image": "tiny", "vcpus": 1, "memory_mib": 256, "disk_mib": 32,
    "created_at": "2026-01-01T00:00:00Z", "tap": "tap0", "guest_up_at": "2026-01-01T00:00:09Z",
}  # fmt: skip


class Manager(ThreadingHTTPServer):
    """Keeps what was asked; a VM's guest is up at the second look."""

    asked: list[tuple[str, str, Any]]
    looks = 0
    url = ""


class Handler(BaseHTTPRequestHandler):
    server: Manager

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.asked.append((self.command, self.path, body))
        status, shown = self.reply()
        data = json.dumps(shown).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status < 400 else "application/problem+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = answer

    def reply(self) -> tuple[int, Any]:
        if self.headers.get("Authorization") != "Bearer good":
            return 401, {
                "title": "no",
                "status": 401,
                "detail": "No valid credentials.",
                "code": "NQR-API-101",
            }
        if self.path.startswith("/v1/hosts/join-tokens"):
            return 201, {"token": "nqr_join", "expires_at": "2026-01-01T01:00:00Z"}
        if self.path == "/v1/vms/nope":
            return 404, {
                "title": "not found",
                "status": 404,
                "detail": "There is no VM nope.",
                "code": "NQR-API-103",
            }
        if self.path.split("?")[0] == "/v1/vms" and self.command == "GET":
            return 200, {"items": [VM], "total": 1}
        self.server.looks += 1
        up = self.server.looks > 2
        return 200, {**VM, "guest_up_at": VM["guest_up_at"] if up else None, "ip": VM["ip"] if up else None}

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    server = Manager(("127.0.0.1", 0), Handler)
    server.asked, server.url = [], f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NQR_MANAGER_URL", server.url)
    monkeypatch.setenv("NQR_TOKEN", "good")
    yield server
    server.shutdown()
    server.server_close()


def test_create_waits_for_the_guest_and_prints_where_it_is(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "vm create --name web1 --image tiny --vcpus 1 --memory 1G --tag a --tag b --start --wait"
    assert run(words.split()) == 0
    assert capsys.readouterr().out.split() == [
        "id",
        "v1",
        "name",
        "web1",
        "state",
        "running",
        "ip",
        "10.0.0.10",
    ]
    method, path, body = manager.asked[0]
    assert (method, path, body["name"], body["memory_mib"], body["tags"]) == (
        "POST",
        "/v1/vms",
        "web1",
        1024,
        ["a", "b"],
    )
    assert manager.looks >= 3


def test_ls_is_the_apis_own_document(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vm", "ls", "--output", "json"]) == 0
    (vm,) = json.loads(capsys.readouterr().out)["items"]
    assert {
        name: vm[name] for name in ("id", "name", "state", "desired_state", "host", "ip", "mac", "boot_id")
    } == {name: VM[name] for name in ("id", "name", "state", "desired_state", "host", "ip", "mac", "boot_id")}


def test_ls_is_a_table_for_people(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vm", "ls"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["NAME", "STATE", "IP", "HOST"]
    assert row.split()[:4] == ["web1", "running", "10.0.0.10", "h1"]


@pytest.mark.parametrize(
    ("words", "token", "code", "cure"),
    [
        (["vm", "show", "nope"], "good", "NQR-API-103", "`ls`"),
        (["vm", "ls"], "bad", "NQR-API-101", "NQR_TOKEN"),
    ],
)
def test_refusals_are_coded_with_a_cure(
    words: list[str], token: str, code: str, cure: str, manager: Manager,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("NQR_TOKEN", token)
    assert run(words) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"{code}  ") and cure in said


def test_the_join_token_stands_alone_so_that_it_can_be_put_into_a_file(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["host", "token", "--ttl", "600"]) == 0
    assert capsys.readouterr().out == "nqr_join\n"
