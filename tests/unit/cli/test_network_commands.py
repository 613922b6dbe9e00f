"""nqr network: what an operator reads while a change of the network is guarded."""

from __future__ import annotations

import json
import os

import pytest
from tests.fakes.host import FakeHost

from nqrust.cli.__main__ import run
from nqrust.cli.network import status_lines
from nqrust.installer.verbs.network.guard.asking import GuardStatus

ARMED = GuardStatus(
    state="armed", link="eth0", bridge="fcbr0", window_seconds=120, seconds_left=87, gateways=("10.0.0.1", "fe80::1"),
    missing=("fe80::1",), waits=True, next="Waiting until gateway fe80::1 answers.",
)  # fmt: skip


def test_armed_guard_tells_what_is_proven_and_what_comes_next() -> None:
    assert status_lines(ARMED) == [
        "eth0 moves to fcbr0. The old network comes back in 87 s, unless proven.",
        "  gateway 10.0.0.1  answers",
        "  gateway fe80::1  no answer yet",
        "  new connection  none yet",
        "  confirmation    none yet",
        "  next: Waiting until gateway fe80::1 answers.",
    ]


def test_guard_without_its_run_says_what_happens() -> None:
    found = GuardStatus(state="armed", link="eth0", bridge="fcbr0", peer="10.0.0.9", confirmed=True, seconds_left=5)
    assert status_lines(found)[1:] == [
        "  new connection  from 10.0.0.9",
        "  confirmation    given",
        "The run that changed the network has ended, so the old network comes back.",
    ]


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ("none", "No change of this host's network is guarded."),
        ("disarmed", "The new network stays."),
        ("fired", "The old network is coming back."),
        ("restored", "The old network is back."),
    ],
)
def test_other_states_are_one_line(state: str, line: str) -> None:
    assert status_lines(GuardStatus(state=state)) == [line]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    made = FakeHost.debian12()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("nqrust.host.local.LocalHost", lambda: made)
    return made


def test_status_for_programs_is_one_document(host: FakeHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["network", "status", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "none"
    assert run(["network", "status"]) == 0
    assert capsys.readouterr().out == "No change of this host's network is guarded.\n"


def test_confirmation_without_a_change_has_a_code_and_a_cure(host: FakeHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["network", "confirm"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("NQR-NET-143") and "cure: " in said


@pytest.mark.parametrize("verb", ["status", "confirm"])
def test_only_root_asks(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run(["network", verb]) == 2
    assert "NQR-USE-001" in capsys.readouterr().err
