"""Every documented usage line becomes a plan of all ten phases that contains its request."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from tests.places import TABLES
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.installer import planner
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.phases.order import PHASES
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import DbType, NetworkMode
from nqrust.installer.settings.sources import gather

TABLE = TABLES / "settings" / "usage.yaml"
ROWS: list[dict[str, Any]] = yaml.safe_load(TABLE.read_text())
PLANNED = [phase for phase in PHASES if phase not in ("preflight", "verify")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["line"] or str(row.get("environ", "nothing"))[:40])
def test_documented_usage_line_can_be_planned(row: dict[str, Any]) -> None:
    settings = gather(flags=row["explicit"], environ={}).settings
    context = Context(
        settings=settings, facts=fit(), secrets=SECRETS, files=ReleaseFiles(RELEASE, "/var/cache/x"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"), explicit=frozenset(row["explicit"]),
    )  # fmt: skip
    plan = planner.plan(context)
    assert [phase.name for phase in plan.phases] == PLANNED
    steps = {step.id for phase in plan.phases for step in phase.steps}
    assert ("service:nqrust-ui" in steps) == settings.has_ui
    assert ("service:nqrust-manager" in steps) == settings.has_manager
    assert ("service:nqrust-agent" in steps) == settings.has_agent
    local = settings.has_manager and settings.database.type is DbType.local
    assert any(step.startswith(("pg-database", "postgres-database")) for step in steps) == local, sorted(steps)
    nat = settings.has_agent and settings.network.mode is not NetworkMode.bridged
    assert ("service:nqrust-dhcp" in steps) == nat
    for phase in plan.phases:
        for step in phase.steps:
            assert step.describe()
