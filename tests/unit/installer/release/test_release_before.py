"""The kept release of before comes back with a rollback, wherever the upgrade or the rollback was cut off."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.engine.test_retire import STATE, Bench
from tests.unit.installer.phases.test_converging import context

from nqrust.host.errors import NoSpace
from nqrust.installer import planner
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.forecast import forecast
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.receipt import unfinished_entries
from nqrust.installer.engine.rollback import RollbackResult
from nqrust.installer.engine.verb import Forecast, UndoContext
from nqrust.installer.operations.site import ChangingSite
from nqrust.installer.platform.venv import MARKER, PythonEnvironment
from nqrust.installer.release.bundled import read_release
from nqrust.installer.release.keep_step import KeepRelease
from nqrust.installer.request import Request
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.former import undo_former
from nqrust.installer.verbs.registry import VERBS

HOME = "/opt/x/installer"
KEPT = f"{HOME}/bundle"


def of(version: str) -> Plan:
    keep = KeepRelease(version, f"/var/cache/{version}", KEPT)
    return Plan((PhasePlan("deps", "t", (Directory("/opt/x"), Directory(HOME), keep)),))


@pytest.fixture
def bench() -> Bench:
    """The first release is installed."""
    host = FakeHost.debian12()
    host.put_directory(STATE, mode=0o700)
    for version in ("1", "2", "3"):
        release = {"schema": 1, "form": "bundled", "version": version, "components": []}
        host.put(f"/var/cache/{version}/release.json", json.dumps(release))
    made = Bench(host)
    assert made.run(of("1")).outcome == "ok"
    return made


def there(bench: Bench) -> str:
    found = read_release(bench.host, KEPT)
    return found.version if found else ""


def back(bench: Bench) -> RollbackResult:
    """As `nqr rollback` does it."""
    return bench.back(bench.receipt.of_runs(set(unfinished_entries(bench.receipt))))


def test_a_rollback_gives_the_release_before_back(bench: Bench) -> None:
    before = bench.state()
    assert bench.run(of("2")).changed == 1 and there(bench) == "2"
    told = [line for _, one in forecast(VERBS, a_context(bench), bench.receipt.entries[-1:]) for line in one.lines]
    assert told == [f"put back {KEPT} of version 1"]
    assert back(bench).undone == 1
    assert there(bench) == "1" and bench.state() == before


def test_an_upgrade_that_fails_gives_the_release_before_back(bench: Bench) -> None:
    """Wherever its disk is full."""
    for number in range(1, 20):
        bench.host.fail_at(number, NoSpace(KEPT, "the file system is full"))
        done = bench.run(of("2"))
        if done.outcome == "ok":
            break
        assert (done.outcome, there(bench), bench.host.listdir(HOME)) == ("rolled_back", "1", ["bundle"]), number
    assert number > 4 and there(bench) == "2"


def test_a_rollback_that_is_cut_off_is_finished_by_the_next(bench: Bench) -> None:
    before = bench.state()
    for number in range(1, 20):
        bench.run(of("2"))
        bench.host.fail_at(number, NoSpace(KEPT, "the file system is full"))
        first = back(bench)
        bench.host.fail_at(10_000, NoSpace(KEPT, ""))
        if not first.failed:
            break
        assert not back(bench).failed
        assert bench.state() == before, number
    assert number > 2


def test_an_uninstall_leaves_neither(bench: Bench) -> None:
    bench.run(of("2"))
    bench.run(of("3"))
    told = [line for _, one in forecast(VERBS, a_context(bench), bench.receipt.entries) for line in one.lines]
    assert told[:2] == [f"remove {KEPT}-2/ with all in it", f"remove {KEPT}-1/ with all in it"]
    assert not bench.back().failed and not bench.host.exists("/opt/x")


def a_context(bench: Bench) -> UndoContext:
    return UndoContext(bench.host, Originals(bench.host, f"{STATE}/originals"))


@pytest.fixture
def install(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    module = importlib.import_module("nqrust.installer.operations.installing")
    monkeypatch.setattr(module, "_checked", lambda *args: context(Settings()))
    monkeypatch.setattr(module, "_prove", lambda *args, **more: ())

    def upgrade(version: str) -> None:
        monkeypatch.setattr(planner, "plan", lambda found: of(version))
        site = ChangingSite(bench.host, bench.journal(), Originals(bench.host, f"{STATE}/originals"))
        assert module._install(site, Request(Settings()), NullReporter()).change(site).exit_code == 0

    yield upgrade


def test_one_release_before_is_kept(bench: Bench, install: object) -> None:
    assert callable(install)
    for version in ("2", "3"):
        install(version)
    assert sorted(bench.host.listdir(HOME)) == ["bundle", "bundle-2"]
    back(bench)
    assert there(bench) == "2"
    (told,) = [one for _, one in forecast(VERBS, a_context(bench), bench.receipt.entries[-1:])]
    assert back(bench).kept == told.stays == (f"{KEPT} stays at version 2: version 1 is no longer kept",)
    assert there(bench) == "2"


def test_a_release_that_is_installed_again_is_the_one_before(bench: Bench, install: object) -> None:
    assert callable(install)
    for version in ("2", "1", "2"):
        install(version)
    assert sorted(bench.host.listdir(HOME)) == ["bundle", "bundle-1"]
    back(bench)
    assert there(bench) == "1"


def test_the_newer_nqr_stays_until_everything_else_is_undone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one before may not know the records that are left."""
    newer = Plan((*of("2").phases, PhasePlan("later", "t", (File("/opt/later", b"x"),))))
    assert bench.run(newer).outcome == "ok"
    with monkeypatch.context() as broken:
        broken.setattr(bench.host, "remove", refused)
        first = back(bench)
    assert len(first.failed) == 2 and there(bench) == "2"
    assert not back(bench).failed and there(bench) == "1"


def refused(path: str) -> None:
    raise NoSpace(path, "it cannot be removed")


def test_a_rollback_says_that_the_nqr_before_has_no_guards(bench: Bench) -> None:
    said: list[str] = []
    host = bench.host
    host.put("/usr/bin/python3.11", "x", mode=0o755)
    for version, warned in (("0.2.0", True), ("0.3.0", False)):
        record = undo_former(f"{HOME}/venv", version, marker=MARKER, needs="/usr/bin/python3.11")
        host.put(f"{HOME}/venv-{version}/{MARKER}", json.dumps({"version": version}))
        host.put(f"{HOME}/venv/{MARKER}", json.dumps({"version": "9"}))
        told = VERBS.get("former").forecast(a_context(bench), record.args)  # type: ignore[union-attr]
        said.clear()
        VERBS.revert(replace(a_context(bench), tell=said.append), record)
        assert [line.startswith(f"nqr {version} is back: with it, run no second rollback") for line in said] == [True] * warned
        assert isinstance(told, Forecast) and told.lines[1:] == tuple(said)


def environment(version: str) -> PythonEnvironment:
    return PythonEnvironment("nqr", f"{HOME}/venv", "/usr/bin/python3.11", "3.11.2", "python3", (), (), version)


def test_the_environment_before_comes_back_with_its_python_only(bench: Bench) -> None:
    host = bench.host
    host.put(f"{HOME}/venv/{MARKER}", json.dumps({"version": "1", "python": "/usr/bin/python3.9"}))
    (record,) = environment("2").prepare(host).undo
    assert record == undo_former(f"{HOME}/venv", "1", marker=MARKER, needs="/usr/bin/python3.9")
    host.rename(f"{HOME}/venv", f"{HOME}/venv-1")
    host.put(f"{HOME}/venv/{MARKER}", json.dumps({"version": "2"}))
    assert "needs /usr/bin/python3.9, which is gone" in str(VERBS.revert(a_context(bench), record))
    assert host.listdir(HOME) == ["bundle", "venv"]


def test_an_environment_of_the_same_release_is_replaced_where_it_is(bench: Bench) -> None:
    """For another Python: that of the one before may be gone."""
    bench.host.put(f"{HOME}/venv/{MARKER}", json.dumps({"version": "2", "python": "/usr/bin/python3.9"}))
    assert environment("2").prepare(bench.host).undo == ()
