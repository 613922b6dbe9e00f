"""The agent's /metrics as Prometheus' own linter sees it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from nqrust.agent.api import metrics
from nqrust.contract.vms import GuestReport

from .conftest import VM, Bench


def test_names_units_and_help_are_as_prometheus_wants_them(bench: Bench, lint_metrics: Callable[[str], list[str]]) -> None:
    bench.service.put(bench.spec())
    report = GuestReport(ip="10.0.0.20", boot_id="b1", cpu_percent=3, memory_available_kib=10, uptime_seconds=4)
    bench.service.guests.record(VM, report, datetime.now(timezone.utc))
    text = metrics.render(bench.service.inventory("h1"), bench.service.verdict()).decode()
    assert 'nqrust_agent_vms{state="running"} 1.0' in text
    assert f'nqrust_guest_memory_available_bytes{{vm="web1",vm_id="{VM}"}} 10240.0' in text
    assert lint_metrics(text) == []
