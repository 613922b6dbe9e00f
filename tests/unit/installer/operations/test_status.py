"""`nqr status` asks the supervisor once for the states of all services, and takes nothing of this shell for drift."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from tests.unit.installer.engine.test_retire import STATE, Bench, Thing, a_bench, plan
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_converging import context

from nqrust.contract.paths import REACH_ENV, STATE_DIR
from nqrust.host.port import Command, Host
from nqrust.installer import operations, planner
from nqrust.installer.context import Context
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import Plan
from nqrust.installer.engine.runner import Runner
from nqrust.installer.engine.step import Step
from nqrust.installer.operations import own_certificate
from nqrust.installer.operations.site import Site
from nqrust.installer.request import Request
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.registry import VERBS
from nqrust.installer.verbs.service.unit import Service


def answer(host: Host, cmd: Command) -> str:
    state = "LoadState=loaded\nActiveState={}\nUnitFileState=enabled\n"
    return "\n".join(state.format("inactive" if "ui" in unit else "active") for unit in cmd.argv[4:])


def installed(monkeypatch: pytest.MonkeyPatch, here: Context, *steps: Step) -> Bench:
    """A host on which `steps` were installed, for `status` with the context `here`."""
    bench = a_bench()
    runner = Runner(VERBS, bench.host, bench.journal(), Originals(bench.host, f"{STATE}/originals"), NullReporter())
    assert not runner.run(plan(*steps), "install", "1", Settings().model_dump(mode="json")).failure
    inspect = sys.modules["nqrust.installer.operations.inspect"] if operations.status else None
    monkeypatch.setattr(inspect, "open_site", lambda events: Site(bench.host, bench.journal(), Originals(bench.host, STATE)))
    monkeypatch.setattr(inspect, "facts_for", lambda host, settings: fit())
    monkeypatch.setattr(inspect, "make_context", lambda *args, **more: here)
    bench.host.on("systemctl", prefix=True, answer=answer)
    return bench


def test_systemd_is_asked_once_for_the_list_and_for_the_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = installed(monkeypatch, context(Settings()), Thing("/etc/a"))

    def whole(found: Context) -> Plan:
        return plan(Thing("/etc/a"), *(Service(name, found.supervisor) for name in ("nqrust-manager", "nqrust-agent")))

    monkeypatch.setattr(planner, "plan", whole)
    found = operations.status(Request(Settings()))
    assert found.installed and [one.name for one in found.services if not one.active] == ["nqrust-ui"]
    assert [cmd.argv[:2] for cmd in bench.host.commands if cmd.argv[0] == "systemctl"] == [("systemctl", "show")]
    assert not [line for line in found.drift if "start" in line]


@pytest.mark.parametrize("kept", ["", "https_proxy=http://proxy:3128\n"])
def test_a_proxy_of_this_shell_is_no_drift(monkeypatch: pytest.MonkeyPatch, kept: str) -> None:
    here = replace(context(Settings()), reach={"https_proxy": "http://other:3128"})
    remembered = (Directory(STATE_DIR), File(REACH_ENV, kept)) if kept else ()
    installed(monkeypatch, here, Thing("/etc/a"), *remembered)
    seen = []

    def whole(found: Context) -> Plan:
        seen.append(found.reach)
        return plan(Thing("/etc/a"))

    monkeypatch.setattr(planner, "plan", whole)
    operations.status(Request(Settings()))
    assert seen == [{"https_proxy": "http://proxy:3128"} if kept else {}]


def test_a_certificate_that_has_ended_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, context(Settings()), Thing("/etc/a"))
    monkeypatch.setattr(planner, "plan", lambda found: plan(Thing("/etc/a")))
    monkeypatch.setattr(own_certificate, "ended", lambda host, settings: ("It ended.",))
    assert operations.status(Request(Settings())).problems == ("It ended.",)
