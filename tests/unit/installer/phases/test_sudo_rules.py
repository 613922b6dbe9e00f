"""The services' rights as root: none with the bundled release; with a release that declares privileges, exactly those."""

from __future__ import annotations

import pytest
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import CASES, RELEASE, SECRETS

from nqrust.installer import planner
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.engine.plan import PhasePlan
from nqrust.installer.phases import services
from nqrust.installer.phases.sudo import SUDOERS_FILE
from nqrust.installer.platform.sudoers import Sudoers
from nqrust.installer.release.descriptor import Privilege
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings
from nqrust.installer.supervisor.spec import Hardening
from nqrust.installer.verbs.packages.step import Packages

PRIVILEGES = (Privilege(component="manager", argv=("{libexec}/helper", "look"), why="look at a disk"),)


def context(mode: str = "production", privileges: tuple[Privilege, ...] = ()) -> Context:
    settings = next(case for case in CASES.values() if case.get("mode", "production") == mode)
    return Context(
        settings=Settings.model_validate(settings),
        facts=fit(supervisor="systemd"),
        secrets=SECRETS,
        files=ReleaseFiles(RELEASE.model_copy(update={"privileges": privileges}), "/var/cache/nqrust-microvm/releases/1.2.3"),
        python=Interpreter("/usr/bin/python3.11", "3.11.2", "/usr/bin/python3.11"),
    )


def phase(context: Context, name: str) -> PhasePlan:
    return next(phase for phase in planner.plan(context).phases if phase.name == name)


def packages(context: Context) -> tuple[str, ...]:
    return next(step.names for step in phase(context, "deps").steps if isinstance(step, Packages))


def manager_hardening(context: Context) -> Hardening:
    return next(spec.hardening for spec in services.our_services(context) if spec.name == services.MANAGER)


@pytest.mark.parametrize("mode", ["production", "minimal", "manager", "agent"])
def test_the_bundled_release_brings_no_sudo_and_no_rule(mode: str) -> None:
    assert RELEASE.form == "bundled" and RELEASE.privileges == ()
    made = context(mode)
    assert "sudo" not in packages(made)
    assert phase(made, "sudo").skipped and not phase(made, "sudo").steps
    if made.settings.has_manager:
        assert manager_hardening(made) is Hardening.strict


def test_a_release_that_declares_privileges_gets_sudo_where_its_component_runs() -> None:
    made = context("production", PRIVILEGES)
    assert "sudo" in packages(made)
    assert manager_hardening(made) is Hardening.sudo, "without new privileges sudo cannot work"
    (rules,) = (step for step in phase(made, "sudo").steps if isinstance(step, Sudoers))
    assert rules.path == SUDOERS_FILE
    elsewhere = context("agent", PRIVILEGES)
    assert "sudo" not in packages(elsewhere) and phase(elsewhere, "sudo").skipped


def test_root_needs_no_sudo() -> None:
    made = context("production", (PRIVILEGES[0].model_copy(update={"user": "root"}),))
    assert "sudo" not in packages(made) and phase(made, "sudo").skipped
    assert manager_hardening(made) is Hardening.strict
