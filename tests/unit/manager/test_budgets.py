"""Events that one host may cause."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nqrust.manager import events
from nqrust.manager.clock import now
from nqrust.manager.core import budgets
from nqrust.manager.core.budgets import Budgets
from nqrust.manager.hosts.service import note_boot
from nqrust.manager.work import acts


def _many(found: Budgets, host_id: str, reason: str = "UnknownVm") -> int:
    return sum(found.allow(host_id, reason) for _ in range(1000))


def test_first_20_events_of_a_host_then_one_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    at = 1000.0
    monkeypatch.setattr(budgets.time, "monotonic", lambda: at)
    found = Budgets()
    assert _many(found, "h1") == 20
    assert _many(found, "h2") == _many(found, "h1", "UnknownTap") == 20
    at += 61
    assert _many(found, "h1") == 1
    at += 3600 * 24
    assert _many(found, "h1") == 20


def test_host_that_reports_a_new_boot_each_time_writes_few_events(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(events, "record", lambda session, host, reason, *more: told.append(reason))
    core: Any = SimpleNamespace(budgets=Budgets(), started_at=now())
    host: Any = SimpleNamespace(id="h1", name="h1", boot_id="b", boots={}, url="http://h1.test:1", last_seen_at=now())
    for number in range(100):
        assert note_boot(core, Any, host, f"boot-{number}", "192.0.2.1")
    assert told == ["HostRebooted"] * 20 and len(str(host.boots)) < 1000


def test_memory_of_told_events_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "_MOST_TOLD", 5)
    core: Any = SimpleNamespace(budgets=Budgets())
    told: set[tuple[str, str]] = set()
    host: Any = SimpleNamespace(id="h1")
    assert sum(acts._first(core, told, host, f"tap{number}", "UnknownTap") for number in range(100)) == 20
    assert len(told) <= 5
    assert not acts._first(core, told, host, "tap19", "UnknownTap")
