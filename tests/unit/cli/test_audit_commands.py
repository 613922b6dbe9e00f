"""nqr audit export: one JSON object a line, page by page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.places import ROOT
from tests.unit.cli.test_vm_commands import Handler, Manager, answering

from nqrust.cli.__main__ import run
from nqrust.contract.events import AuditEntry


def entry(number: int) -> dict[str, Any]:
    return {
        "id": number, "at": "2026-01-01T00:00:00Z", "actor": "ann", "method": "POST", "path": "/v1/vms", "status": 201,
        "request_id": f"r{number}", "source": "192.0.2.1", "action": "create_vm", "target": f"web{number}",
    }  # fmt: skip


class Log(Handler):
    def reply(self) -> tuple[int, Any]:
        query = parse_qs(urlsplit(self.path).query)
        first, limit = int(query["after"][0]) + 1, int(query["limit"][0])
        return 200, {"items": [entry(number) for number in range(first, 2501)][:limit]}


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with answering(Log, monkeypatch) as server:
        yield server


def test_export_writes_json_lines_page_by_page(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "export"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in lines] == list(range(1, 2501))
    assert lines[0]["target"] == "web1" and set(lines[0]) >= {"actor", "username", "token", "auth", "code", "source"}
    assert [path for _, path, _ in manager.asked] == [f"/v1/audit?limit=1000&after={n}" for n in (0, 1000, 2000, 2500)]


def test_export_continues_after_an_id(manager: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "export", "--after", "2498"]) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [2499, 2500]


@pytest.mark.parametrize("given", ["yesterday", "2026-13-01", ""])
def test_unusable_time_is_refused(manager: Manager, capsys: pytest.CaptureFixture[str], given: str) -> None:
    assert run(["audit", "export", f"--since={given}"]) == 2
    assert "--since cannot be" in capsys.readouterr().err and manager.asked == []


def test_every_field_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "api.md").read_text().partition("## Audit log")[2]
    named = {name for row in text.splitlines() if row.startswith("| `") for name in re.findall(r"`(\w+)`", row.split(" | ")[0])}
    assert named == set(AuditEntry.model_fields)
