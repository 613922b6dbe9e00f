"""A manager that started before its clock was right: how long it has watched its hosts does not come from that clock."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from nqrust.contract.hosts import HostState
from nqrust.manager import clock
from nqrust.manager.core.agents import AgentAway
from nqrust.manager.core.boots import QUIET, Boots
from nqrust.manager.core.core import Core
from nqrust.manager.core.liveness import host_state

OFF_BY = pytest.mark.parametrize("hours", [-5, 0, 5])


def set_ahead(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    monkeypatch.setattr(clock, "datetime", SimpleNamespace(now=lambda zone: datetime.now(zone) + by))


def started(monkeypatch: pytest.MonkeyPatch, hours: float) -> Core:
    """Return the core of a manager that started while its clock was so far ahead. It is right again."""
    with monkeypatch.context() as patched:
        set_ahead(patched, timedelta(hours=hours))
        agents: Any = SimpleNamespace(at=lambda url, *more, **named: url)
        settings: Any = SimpleNamespace()
        return Core(settings=settings, db=settings, agents=agents)


def later(monkeypatch: pytest.MonkeyPatch, passed: timedelta) -> None:
    at = time.monotonic() + passed.total_seconds()
    monkeypatch.setattr(time, "monotonic", lambda: at)
    set_ahead(monkeypatch, passed)


def long_ago() -> datetime:
    return datetime.now(timezone.utc) - timedelta(minutes=30)


@OFF_BY
def test_it_uses_a_host_that_rebooted_as_soon_as_no_second_machine_is_expected(
    monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    core = started(monkeypatch, hours)
    known = Boots().replaced("boot-1", "boot-2", long_ago()).model_dump(mode="json")
    host: Any = SimpleNamespace(id="h1", name="h1", url="https://h1.test:1", command_token="", boots=known)
    with pytest.raises(AgentAway, match="just booted"):
        core.agent_of(host)
    later(monkeypatch, QUIET)
    assert core.agent_of(host) == host.url


@OFF_BY
def test_silence_of_a_host_counts_from_its_start(monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    core = started(monkeypatch, hours)
    assert host_state(long_ago(), clock.now(), core.started_at) is HostState.degraded
    later(monkeypatch, timedelta(minutes=2))
    assert host_state(long_ago(), clock.now(), core.started_at) is HostState.offline
