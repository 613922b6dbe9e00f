"""The plan of a rotation: which steps change what, in which order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.installer.phases.test_converging import context
from tests.unit.installer.rotation.rotating import secrets

from nqrust.installer.phases.order import ROTATED
from nqrust.installer.phases.rotation import turns
from nqrust.installer.settings.model import Settings

STATE = ("directory:/var/lib/nqrust-microvm", "file:/var/lib/nqrust-microvm/secrets.json")
CONFIG = "/etc/nqrust-microvm"
AUTHORITY = (*STATE, f"file:{CONFIG}/tls/ca.crt", f"file:{CONFIG}/tls/ca.key")
PLAN = {
    "database": (*STATE, f"file:{CONFIG}/database-password", "pg-role:nexus", "pg-login:nexus"),
    "tokens": (
        *STATE,
        f"file:{CONFIG}/bootstrap.json",
        f"file:{CONFIG}/cli-token",
        f"file:{CONFIG}/join-token",
        "rotation:tokens",
    ),
    "introduce": (*AUTHORITY, "rotation:authority-known"),
    "switch": (*AUTHORITY, "rotation:authority-used"),
    "retire": (*AUTHORITY, "rotation:authority-alone"),
    "certificates": ("rotation:certificates",),
}
"""Turn -> ids of its steps. The secrets are stored first; the password's file comes before the role; hosts come last."""


def planned(names: tuple[str, ...], settings: Settings | None = None, interrupted: str = "") -> dict[str, tuple[str, ...]]:
    made = replace(context(settings or Settings()), secrets=secrets())
    return {turn.name: tuple(step.id for step in turn.plan(made, 1.0).steps) for turn in turns(names, interrupted)}


def test_plan_of_each_name() -> None:
    assert planned(ROTATED) == {name: ids for name, ids in PLAN.items() if name != "certificates"}
    assert list(planned(ROTATED)) == [name for name in PLAN if name != "certificates"]
    for name in ("database", "tokens", "certificates"):
        assert planned((name,)) == {name: PLAN[name]}


def test_no_service_restarts() -> None:
    assert not [id for ids in PLAN.values() for id in ids if id.startswith("service:")]


def test_manager_without_an_agent_has_no_join_token() -> None:
    found = planned(("tokens",), Settings.model_validate({"mode": "manager"}))
    assert f"file:{CONFIG}/join-token" not in found["tokens"]


@pytest.mark.parametrize(
    ("interrupted", "names"),
    [("", ["introduce", "switch", "retire"]), ("retire", ["retire"]), ("tokens", ["introduce", "switch", "retire"])],
)
def test_last_stage_is_finished_and_not_begun_anew(interrupted: str, names: list[str]) -> None:
    assert list(planned(("authority",), interrupted=interrupted)) == names
