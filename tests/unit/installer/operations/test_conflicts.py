"""Status and doctor report hosts with two machines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.fakes.host import FakeHost

from nqrust.installer.operations import conflicts

BASE, TOKEN_FILE = "http://127.0.0.1:18080", "/etc/cli-token"
TWO = "Two machines report as host h2."


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((200, json.dumps({"items": [{"name": "h1", "conflict": ""}, {"name": "h2", "conflict": TWO}]})), (TWO,)),
        ((200, json.dumps({"items": [{"name": "h1"}]})), ()),  # a manager of an earlier version
        ((401, "{}"), ()),
        ((200, "[]"), ()),
        ((200, '{"items": ['), ()),
        (None, ()),
    ],
)
def test_hosts_with_two_machines_are_told(answer: Any, told: tuple[str, ...]) -> None:
    host, asked = FakeHost.debian12(), []
    host.put(TOKEN_FILE, "nqr_token\n")

    def page(headers: dict[str, Any]) -> Any:
        asked.append(headers["Authorization"].reveal())
        return answer

    host.pages[f"{BASE}/v1/hosts"] = page
    assert conflicts.told(host, BASE, TOKEN_FILE) == told
    assert asked == ["Bearer nqr_token"]


def test_nobody_is_asked_without_a_token() -> None:
    assert conflicts.told(FakeHost.debian12(), BASE, TOKEN_FILE) == ()
