"""The whole plan on each release, with a package manager that knows the release's real package names and no others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import yaml
from tests.fakes.host import FakeHost
from tests.fakes.package_manager import Installing
from tests.places import ROOT, TABLES
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.host.errors import CommandFailed
from nqrust.host.facts.kernel import parse_release
from nqrust.host.facts.model import Facts, Kernel
from nqrust.host.facts.os import parse_os_release
from nqrust.host.facts.selinux import parse_enforce
from nqrust.host.port import Command, command
from nqrust.installer import planner
from nqrust.installer.context import Context, ReleaseFiles
from nqrust.installer.distro import registry
from nqrust.installer.engine.plan import Plan
from nqrust.installer.phases.order import PHASES
from nqrust.installer.preflight.findings import Severity
from nqrust.installer.preflight.run import Situation, run
from nqrust.installer.release.interpreter import Interpreter
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.packages.step import Packages
from nqrust.installer.verbs.postgres.cluster import PostgresClusterRunning

TABLE: dict[str, Any] = yaml.safe_load((TABLES / "distributions.yaml").read_text())
NAMED: dict[str, dict[str, Any]] = {row["os"]: row for row in TABLE["releases"]}
ROWS = pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in NAMED.items()])


def flat(listed: Any) -> list[str]:
    """Lists in lists, as YAML's anchors make them."""
    return [listed] if isinstance(listed, str) else [name for one in listed for name in flat(one)]


def facts_of(row: dict[str, Any]) -> Facts:
    text = (TABLES / "facts/os-release" / row["os"]).read_text()
    here = fit(
        os=parse_os_release(text), selinux=parse_enforce(row.get("selinux", "")), packages=frozenset(row.get("installed", ()))
    )
    release = row.get("kernel", here.kernel.release)
    kernel = Kernel(release, parse_release(release), row.get("machine", "x86_64"), modules_loadable=True)
    return replace(here, kernel=kernel)


def plan_of(row: dict[str, Any]) -> Plan:
    python = Interpreter("/usr/bin/python3", "3.11.2", "/usr/bin/python3")
    return planner.plan(Context(Settings(), facts_of(row), SECRETS, ReleaseFiles(RELEASE, "/var/cache/x"), python))


@dataclass
class Release:
    """A package manager's view of a release. `installed` grows."""

    has: set[str]
    provides: dict[str, str]
    behind: dict[str, list[str]]
    installed: set[str] = field(default_factory=set)

    def install(self, host: FakeHost, cmd: Command) -> str:
        unknown = [name for name in cmd.argv[2:] if self.provides.get(name, name) not in self.has]
        if unknown:
            raise CommandFailed(cmd.argv, 1, f"never heard of {', '.join(unknown)}")
        for name in cmd.argv[2:]:
            self.installed.add(self.provides.get(name, name))
            self.has.update(self.behind.get(name, ()))
        return ""


@dataclass(frozen=True)
class Knowing(Installing):
    release: Release = field(default_factory=lambda: Release(set(), {}, {}))

    def installed(self, host: Any) -> dict[str, str]:
        return dict.fromkeys(self.release.installed, "1")

    def install(self, names: Sequence[str]) -> Command:
        return command("few", "add", *names)


def carried_out(row: dict[str, Any], plan: Plan) -> Release:
    """What is installed after the plan's packages were, in their order."""
    release = Release(set(flat(row["has"])), row.get("provides", {}), row.get("behind", {}))
    host = FakeHost.debian12()
    host.on("few", "add", prefix=True, changes=True, answer=release.install)
    for phase in plan.phases:
        for step in phase.steps:
            if isinstance(step, Packages):
                ours = replace(step, manager=Knowing(release=release))
                ours.apply(host)
                ours.verify(host)
    return release


@ROWS
def test_the_plan_asks_only_for_packages_that_the_release_has(row: dict[str, Any]) -> None:
    assert carried_out(row, plan_of(row)).installed == set(flat(row["brings"]))


@ROWS
def test_every_role_has_packages_in_the_release(row: dict[str, Any]) -> None:
    """Roles that only builds use too."""
    distro = registry.kin(facts_of(row).os)
    assert distro is not None
    there = {*flat(row["has"]), *flat(list(row.get("behind", {}).values()))}
    assert {role: set(names) - there for role, names in distro.packages.items() if set(names) - there} == {}


@ROWS
def test_the_plan_has_every_phase_and_the_steps_of_its_kind_of_host(row: dict[str, Any]) -> None:
    plan = plan_of(row)
    assert [phase.name for phase in plan.phases] == [name for name in PHASES if name not in ("preflight", "verify")]
    assert [phase.name for phase in plan.phases if phase.skipped] == ["sudo"]  # its default
    steps = {step.id: step for phase in plan.phases for step in phase.steps}
    special = {one for one in steps if one.startswith(("selinux-", "module-stream:", "packages:repository"))}
    assert special == set(flat(row.get("steps", ())))
    cluster = steps["postgres-cluster"]
    assert isinstance(cluster, PostgresClusterRunning)
    assert cluster.layout == ("debian" if "dnsmasq-base" in flat(row["has"]) else "redhat")


@ROWS
def test_preflight_accepts_the_release(row: dict[str, Any]) -> None:
    found = run(Settings(), facts_of(row), FakeHost.debian12(), Situation())
    assert [one for one in found if one.severity is Severity.error] == []


@pytest.mark.parametrize("row", [pytest.param(row, id=row["name"]) for row in TABLE["refused"]])
def test_other_hosts_are_refused_with_a_cure(row: dict[str, Any]) -> None:
    (found,) = [one for one in run(Settings(), facts_of(row), FakeHost.debian12(), Situation()) if one.severity is Severity.error]
    assert found.code == row["code"] and row["says"] in found.what and row["cure"] in found.cure


def test_an_unknown_package_name_fails() -> None:
    """The fake is strict: the name of RHEL 8 does not do on RHEL 9, where another package only answers to it."""
    row = {**NAMED["rocky-9"], "provides": {}}
    old = replace(next(step for step in _packages(plan_of(NAMED["rocky-8"])) if step.label == "platform"))
    release = Release({*flat(row["has"]), "screen"}, {"iptables": "iptables-nft"}, {})
    host = FakeHost.debian12()
    host.on("few", "add", prefix=True, changes=True, answer=release.install)
    step = replace(old, manager=Knowing(release=release))
    step.apply(host)
    with pytest.raises(Exception, match="iptables"):
        step.verify(host)


def _packages(plan: Plan) -> Iterator[Packages]:
    return (step for phase in plan.phases for step in phase.steps if isinstance(step, Packages))


def test_the_page_marks_releases_that_no_machine_has_shown() -> None:
    page = (ROOT / "docs/reference/known-issues.md").read_text()
    lines = page.splitlines()
    for name, row in NAMED.items():
        kind, _, version = name.partition("-")
        (line,) = [one for one in lines if one.startswith(f"| {TABLE['titles'][kind]} |") and version in one]
        assert ("tested from facts" in line) == (row["seen"] == "facts"), line
