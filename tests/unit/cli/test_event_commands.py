"""`nqr event ls` and `nqr audit ls`: the newest line is the last one, and --follow shows each event once."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.unit.cli.test_audit_commands import entry
from tests.unit.cli.test_vm_commands import Handler, answering

from nqrust.cli import events
from nqrust.cli.__main__ import run
from nqrust.cli.stopping import Stopped


def event(number: int) -> dict[str, Any]:
    return {
        "id": number, "at": "2026-01-01T00:00:00Z", "subject_kind": "vm", "subject_id": "v1", "subject_name": "web1",
        "reason": "Started", "message": f"Start {number}.",
    }  # fmt: skip


class Log(Handler):
    last = 3

    def reply(self) -> tuple[int, Any]:
        query = parse_qs(urlsplit(self.path).query)
        if self.path.startswith("/v1/audit"):
            return 200, {"items": [entry(2), entry(1)]}
        after = int(query.get("after", ["0"])[0])
        return 200, {"items": [event(number) for number in range(Log.last, after, -1)]}


def test_the_newest_is_the_last_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(Log, monkeypatch):
        assert run(["event", "ls"]) == 0
        head, *rows = capsys.readouterr().out.splitlines()
        assert head.split()[0] == "AT" and [row.split()[-1] for row in rows] == ["1.", "2.", "3."]
        assert run(["audit", "ls"]) == 0
        _, *rows = capsys.readouterr().out.splitlines()
        assert [row.split()[4] for row in rows] == ["web1", "web2"]


@pytest.mark.parametrize(("form", "read"), [("json", lambda line: json.loads(line)["id"]), ("name", int)])
def test_follow_shows_each_event_once_until_ctrl_c(
    form: str, read: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = []

    def sleep(seconds: float) -> None:
        rounds.append(seconds)
        Log.last += 1
        if len(rounds) == 3:
            raise Stopped("SIGINT")

    monkeypatch.setattr(events.time, "sleep", sleep)
    monkeypatch.setattr(Log, "last", 3)
    with answering(Log, monkeypatch):
        assert run(["event", "ls", "-f", "-o", form]) == 130
        assert [read(line) for line in capsys.readouterr().out.splitlines()] == [1, 2, 3, 4, 5]
        assert run(["event", "ls", "-f", "-o", "yaml"]) == 2
