"""What pulling container images needs on a host: skopeo, beside each manager of this project."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.installer.phases import test_upstream_plan as upstream
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.operations import bundling
from nqrust.installer.phases.deps import roles
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings

REMOTE = {"type": "remote", "host": "db.example"}


def wanted(**settings: Any) -> list[str]:
    python = Interpreter("/usr/bin/python3", "3.11.2", "/usr/bin/python3")
    return roles(Context(Settings.model_validate(settings), fit(), SECRETS, ReleaseFiles(RELEASE, "/x"), python))


@pytest.mark.parametrize(
    ("mode", "there"), [("production", True), ("dev", True), ("minimal", True), ("manager", True), ("agent", False)]
)
def test_skopeo_comes_with_a_manager(mode: str, there: bool) -> None:
    assert ("skopeo" in wanted(mode=mode, agent={"manager_base": "http://m1:18080"})) is there


def test_a_manager_of_upstream_pulls_nothing() -> None:
    assert "skopeo" not in roles(upstream.context())


@pytest.mark.parametrize("mode", ["production", "dev", "minimal", "manager", "agent"])
@pytest.mark.parametrize("more", [{}, {"network": {"mode": "isolated"}}, {"database": REMOTE}])
def test_a_bundle_has_the_packages_of_each_install(mode: str, more: dict[str, Any]) -> None:
    found = set(wanted(mode=mode, agent={"manager_base": "http://m1:18080"}, **more))
    assert found <= set(bundling.ROLES), found - set(bundling.ROLES)
