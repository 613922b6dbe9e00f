"""The report of a run that removed something."""

from __future__ import annotations

import importlib

import pytest
from tests.unit.installer.engine.test_retire import STATE, Thing, a_bench, plan
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_converging import context

from nqrust.installer import planner
from nqrust.installer.engine.errors import Interrupted, PreflightRefused
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.retire import PHASE, Retired
from nqrust.installer.engine.runner import Runner, RunResult
from nqrust.installer.operations import summary
from nqrust.installer.operations.site import ChangingSite
from nqrust.installer.reporting.wording import headline, plan_lines
from nqrust.installer.request import PhasePreview, PlanPreview, Request, StepPreview
from nqrust.installer.settings.model import Settings
from nqrust.installer.settings.sources import nested
from nqrust.installer.verbs.registry import VERBS


def settings(**flat: object) -> Settings:
    return Settings.model_validate(nested({name.replace("__", "."): value for name, value in flat.items()}))


def told(was: Settings, now: Settings, **result: object) -> tuple[str, ...]:
    ran = RunResult("r", **result)  # type: ignore[arg-type]
    return summary.finished(ran, (), context(now, was), Request(now)).notes


def test_packages_and_data_that_stay_are_told_once_something_changed() -> None:
    manager = settings(mode="manager")
    stays = Retired(gone=("service:nqrust-agent",), stays=("/srv/fc/volumes is data and stays.",))
    notes = told(Settings(), manager, changed=3, retired=stays)
    assert notes[0] == "/srv/fc/volumes is data and stays."
    assert any("Packages" in note and "nqr uninstall" in note for note in notes)
    assert any("nqr host rm kvm1" in note for note in notes), "the manager still lists this host"
    assert told(manager, manager, changed=0, retired=stays) == (), "a run that changes nothing says nothing"


def test_the_image_tool_stays_though_only_the_image_that_is_data_needed_it() -> None:
    notes = told(settings(components__container_runtime=True), Settings(), changed=1)
    assert [note for note in notes if note.startswith("Packages")]
    assert not told(Settings(), settings(components__ui=False), changed=6), "the web UI brought no packages"


def test_plan_marks_removed_things() -> None:
    going = PhasePreview(PHASE, "t", (StepPreview("service:x", "service", "remove unit x.service", ("- remove /run/x",)),))
    coming = PhasePreview("config", "t", (StepPreview("file:/a", "file", "write /a"),))
    lines = [text for _, text in plan_lines(PlanPreview("install", (coming, going)))]
    assert "  + write /a" in lines and "  - remove unit x.service" in lines and "      - remove /run/x" in lines


def test_a_signal_during_the_proofs_of_a_run_that_removed_something_does_not_claim_a_way_back() -> None:
    stopped = RunResult("r", "failed", changed=6, failure=Interrupted("NQR-ENG-030", "Stopped.", "Again."))
    shown = summary.finished(stopped, (), context(Settings()), Request(Settings()))
    assert shown.exit_code == 130 and "Its changes stay" in headline("install", shown)
    back = RunResult("r", "rolled_back", failure=Interrupted("NQR-ENG-030", "Stopped.", "Again."))
    assert "rolled back" in headline("install", summary.finished(back, (), context(Settings()), Request(Settings())))


@pytest.mark.parametrize("retires", [True, False])
def test_a_signal_during_the_proofs_takes_back_only_what_can_be_taken_back(
    monkeypatch: pytest.MonkeyPatch, retires: bool
) -> None:
    bench = a_bench()
    bench.run(plan(Thing("/etc/old")))
    wanted = plan(Thing("/etc/new")) if retires else plan(Thing("/etc/old"), Thing("/etc/new"))
    site = ChangingSite(bench.host, bench.journal(), Originals(bench.host, f"{STATE}/originals"))

    def interrupted(*args: object, **more: object) -> None:
        raise Interrupted("NQR-ENG-030", "Stopped by SIGINT.", "Again.")

    install = importlib.import_module("nqrust.installer.operations.installing")  # the package has a function of that name
    monkeypatch.setattr(install, "_checked", lambda *args: context(Settings()))
    monkeypatch.setattr(planner, "plan", lambda found: wanted)
    monkeypatch.setattr(install, "_prove", interrupted)
    done = install._install(site, Request(Settings()), NullReporter()).change(site)
    assert done.exit_code == 130
    assert bench.host.exists("/etc/new") is retires, "what replaced it stays; else the run goes back"
    assert bench.host.exists("/etc/old") is not retires
    assert bench.run(plan(Thing("/etc/new") if retires else Thing("/etc/old"))).changed == 0


def test_another_folder_is_refused_before_the_release_in_it_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = a_bench()
    runner = Runner(VERBS, bench.host, bench.journal(), Originals(bench.host, f"{STATE}/originals"), NullReporter())
    runner.run(plan(Thing("/etc/a")), "install", "1", Settings().model_dump(mode="json"))
    site = ChangingSite(bench.host, bench.journal(), Originals(bench.host, f"{STATE}/originals"))
    install = importlib.import_module("nqrust.installer.operations.installing")
    monkeypatch.setattr(install, "facts_for", lambda host, wanted: fit())
    with pytest.raises(PreflightRefused) as refused:
        install._checked(site, Request(settings(paths__install_dir="/opt/other")), NullReporter())
    assert refused.value.code == "NQR-PRE-060"
