"""`nqr rollback` of a run that removed something: the question before it installs the earlier settings again."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal

import pytest
from tests.fakes.release_web import Web, web
from tests.unit.installer.engine.test_retire import Bench as Retiring
from tests.unit.installer.engine.test_retire import Thing, a_bench, plan
from tests.unit.installer.operations.test_switching import settings
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_converging import context

from nqrust.cli.signals import raising
from nqrust.contract import paths
from nqrust.installer import operations, planner
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.runner import Runner
from nqrust.installer.operations import gate, reinstating
from nqrust.installer.operations.site import ChangingSite, make_context
from nqrust.installer.request import Request, Summary
from nqrust.installer.settings.model import ReleaseSettings, Settings
from nqrust.installer.verbs.registry import VERBS

__all__ = ["web"]
OLD, NEW = settings(network__bridge_name="vmbr1"), settings()


def run(bench: Retiring, now: Settings | dict[str, object], *things: Thing) -> None:
    raw = now.model_dump(mode="json") if isinstance(now, Settings) else now
    runner = Runner(VERBS, bench.host, bench.journal(), Originals(bench.host, paths.ORIGINALS_DIR), NullReporter())
    assert runner.run(plan(*things), "install", "1", raw, retiring=True).outcome == "ok"


def site(bench: Retiring) -> ChangingSite:
    return ChangingSite(bench.host, bench.journal(), Originals(bench.host, paths.ORIGINALS_DIR))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Retiring:
    """A host whose last run replaced one object by another."""
    made = a_bench()
    made.host.on("dpkg-query", prefix=True, answer="")
    monkeypatch.setattr(gate, "open_to_change", lambda events: site(made))
    monkeypatch.setattr(gate, "exclusive", lambda *_: contextlib.nullcontext(contextlib.nullcontext))
    monkeypatch.setattr(reinstating, "facts_for", lambda host, wanted: fit())
    monkeypatch.setattr(reinstating, "make_context", lambda site, asked, *_, going_back: context(asked.settings))
    monkeypatch.setattr(planner, "plan", lambda found: plan(Thing("/etc/old")))
    monkeypatch.setattr(importlib.import_module("nqrust.installer.operations.remove"), "_preload", lambda: None)
    run(made, OLD, Thing("/etc/old"))
    run(made, NEW, Thing("/etc/new"))
    assert made.host.exists("/etc/new") and not made.host.exists("/etc/old")
    return made


def rollback() -> Summary:
    return operations.rollback(Request(Settings()), NullReporter())


def test_reinstating_restores_the_earlier_settings(bench: Retiring) -> None:
    done = rollback()
    assert done.exit_code == 0 and "The settings from before that run apply again." in done.notes
    assert bench.host.exists("/etc/old") and not bench.host.exists("/etc/new")
    assert site(bench).installed_settings == OLD


def test_a_signal_undoes_a_rollback_that_installs(bench: Retiring, monkeypatch: pytest.MonkeyPatch) -> None:
    write, before = bench.host.write_file, bench.state()

    def signalled(path: str, *given: object, **options: object) -> None:
        if path == "/etc/old":
            os.kill(os.getpid(), signal.SIGHUP)
        write(path, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.host, "write_file", signalled)
    with raising():
        done = rollback()
    assert (done.outcome, done.exit_code) == ("rolled_back", 130) and not any("apply again" in note for note in done.notes)
    bench.host.remove(paths.UNDO_SCRIPT)
    assert bench.state() == before and site(bench).installed_settings == NEW


def test_reinstating_refuses_to_lose_a_vm(bench: Retiring, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody created a VM since, on the bridge that would be removed."""
    bench.host.put_directory(f"{NEW.layout.vms_dir}/a")
    monkeypatch.setattr(reinstating, "make_context", lambda *_, **more: pytest.fail("it goes on"))
    before, records = bench.state(), bench.store.data
    done = rollback()
    assert done.exit_code == 3 and done.failure is not None and done.failure.code == "NQR-PRE-063"
    assert bench.host.exists("/etc/new") and not bench.host.exists("/etc/old") and bench.store.data == records
    if bench.host.exists(paths.UNDO_SCRIPT):
        bench.host.remove(paths.UNDO_SCRIPT)
    assert bench.state() == before


def test_reinstating_refuses_an_older_release(bench: Retiring) -> None:
    """The address in the earlier settings could serve another release by now."""
    bench.host.put_directory(paths.INSTALL_DIR)
    bench.host.symlink("releases/9.0.0", f"{paths.INSTALL_DIR}/current")
    done = rollback()
    assert done.exit_code == 3 and done.failure is not None and done.failure.code == "NQR-REL-033"
    assert bench.host.exists("/etc/new") and not bench.host.exists("/etc/old")


def test_reinstating_asks_nobody_over_plain_http(bench: Retiring, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = OLD.model_copy(update={"release": ReleaseSettings(source="http://releases.example/v1")})
    run(bench, plain, Thing("/etc/old"))
    run(bench, NEW, Thing("/etc/new"))
    monkeypatch.setattr(reinstating, "make_context", make_context)
    done = rollback()
    assert done.failure is not None and done.failure.code == "NQR-REL-027" and web.asked == []
    assert bench.host.exists("/etc/new") and not bench.host.exists("/etc/old")


def test_former_settings_are_in_the_order_in_which_they_were_last_in_force(bench: Retiring) -> None:
    """A search for an object of an earlier run returns the newest match."""
    third = settings(network__bridge_name="vmbr3")
    assert site(bench).former_settings == (OLD, NEW)
    run(bench, third, Thing("/etc/third"))
    run(bench, {"of": "another version"}, Thing("/etc/fourth"))
    run(bench, OLD, Thing("/etc/fifth"))
    assert site(bench).former_settings == (NEW, third, OLD), "each once, where it was last; what nobody understands is left out"
