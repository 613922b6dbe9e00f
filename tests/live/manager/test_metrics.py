"""The manager's /metrics as Prometheus' own linter sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nqrust.client import calls
from nqrust.contract.vms import VmCreate
from nqrust.manager.work.reconciler import Reconciler


async def test_names_units_and_help_are_as_prometheus_wants_them(manager: Any, lint_metrics: Callable[[str], list[str]]) -> None:
    await manager.host()
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny")))
    await manager.until("web1", "running")
    await Reconciler(manager.core).once()
    text = await manager.admin.send(calls.metrics())
    assert 'nqrust_vms{state="running"} 1.0' in text
    assert 'nqrust_operations_total{kind="create",outcome="done"}' in text
    assert lint_metrics(text) == []
    bad = "# HELP nqrust_wait_milliseconds Time.\n# TYPE nqrust_wait_milliseconds counter\nnqrust_wait_milliseconds 1\n"
    assert lint_metrics(bad), "it is a linter that is asked"
