"""`nqr vm forward` and `nqr vm limit` of a VM that runs end with the answer of its host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.cli.test_vm_commands import VM, Handler, Manager, answering

from nqrust.cli.__main__ import run

REFUSAL = "Port 22/tcp of this host is kept for the platform and for SSH."
WANTED = {
    "vm forward web1 22:22": {"forwards": [{"protocol": "tcp", "host_port": 22, "guest_port": 22}]},
    "vm limit web1 --disk-iops 100": {"rate_limits": {"disk_iops": 100}},
}


class Host(Handler):
    """The manager takes the change at once. Its host takes it, or refuses it, at the second look."""

    refuses = False

    def reply(self) -> tuple[int, Any]:
        if self.command != "GET":
            wanted = next(
                fields for words, fields in WANTED.items() if words.split()[1] in self.path.replace("rate-limits", "limit")
            )
            return 202, {**VM, "generation": 2, **wanted}
        self.server.looks += 1
        if self.server.looks < 2:
            return 200, {**VM, "generation": 2}
        wanted = {"error": REFUSAL} if self.refuses else WANTED[self.server.error]
        return 200, {**VM, "generation": 2, "observed_generation": 2, **wanted}


@pytest.fixture(params=WANTED)
def words(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def manager(words: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with answering(Host, monkeypatch) as server:
        server.error = words
        yield server


def test_a_change_that_the_host_takes_is_shown(words: str, manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words.split(), "-o", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert all(str(value) in json.dumps(shown) for value in ("22" if "forward" in words else "100",)) and manager.looks == 2


def test_a_change_that_the_host_refuses_is_an_error(
    words: str, manager: Manager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was shown as done, and the manager took it back a moment later."""
    monkeypatch.setattr(Host, "refuses", True)
    assert run(words.split()) == 1
    said = capsys.readouterr()
    assert said.out == "" and "NQR-API-197  VM web1 did not get the " in said.err and REFUSAL in said.err
    assert "cure: Look at it with: nqr vm show web1" in said.err
