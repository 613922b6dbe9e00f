"""`nqr vm ls --unknown`, `adopt`, `rm --unknown` and `nqr host show`, against a manager that answers over HTTP."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from nqrust.cli.__main__ import run
from nqrust.client import manager as client

LOST = {
    "id": "v9", "name": "lost1", "host": "h1", "state": "running", "ip": "10.0.0.77", "image": "tiny",
    "first_seen_at": "2026-01-01T00:00:00Z",
}  # fmt: skip
VM = {
    "id": "v9", "name": "web9", "state": "running", "desired_state": "running", "host": "h1", "ip": "10.0.0.77", "mac": "m", "tap": "t",
    "image": "tiny", "vcpus": 1, "memory_mib": 64, "disk_mib": 16, "created_at": "2026-01-01T00:00:00Z", "generation": 4,
    "observed_generation": 4,
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any]]:
    found: list[tuple[str, str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        found.append((request.method, path, json.loads(request.content) if request.content else None))
        if path == "/v1/unknown-vms":
            return httpx.Response(200, json={"items": [LOST], "total": 1})
        if path == "/v1/vms/adopt":
            return httpx.Response(201, json=VM)
        if request.method == "DELETE":
            return httpx.Response(204)
        if path.endswith("/start"):
            return httpx.Response(202, json={**VM, "state": "running", "generation": 4})
        dead = {**VM, "state": "failed", "error": "The VMM ended after signal 9."}
        return httpx.Response(200, json=dead if "fresh=true" in path else VM)

    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(client.httpx, "Client", lambda **given: _client(**{**given, "transport": transport}))
    monkeypatch.setenv("NQR_MANAGER_URL", "http://manager:18080")
    monkeypatch.setenv("NQR_TOKEN", "good")
    return found


_client = httpx.Client


def test_unknown_vms_are_listed(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vm", "ls", "--unknown"]) == 0
    assert "lost1" in (said := capsys.readouterr().out) and "v9" in said and "10.0.0.77" in said
    assert run(["vm", "ls", "--unknown", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["id"] == "v9"


def test_unknown_vm_is_adopted_under_a_new_name(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vm", "adopt", "v9", "--name", "web9"]) == 0
    assert asked == [("POST", "/v1/vms/adopt", {"id": "v9", "name": "web9"})]
    assert "web9" in capsys.readouterr().out
    assert run(["vm", "adopt", "v9"]) == 0
    assert asked[1][2] == {"id": "v9"}


def test_cli_refuses_an_invalid_vm_name(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vm", "adopt", "v9", "--name", "Web 9"]) == 2
    assert "NQR-USE-003" in capsys.readouterr().err and asked == []


def test_unknown_vm_is_deleted(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vm", "rm", "--unknown", "v9"]) == 0
    assert asked == [("DELETE", "/v1/unknown-vms/v9", None)]
    assert capsys.readouterr().out == "deleted v9\n"


def test_vm_start_fails_when_the_vm_died(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The manager's record reports a running VM, its host a stopped one."""
    assert run(["vm", "start", "web9", "--wait"]) != 0
    assert "NQR-API-197" in (said := capsys.readouterr().err) and "signal 9" in said
