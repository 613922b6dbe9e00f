"""A signal tears no revert. It stops an uninstall after the current step, while nqr is there to continue it, and no rollback."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.installer.operations.a_used_platform import DISK, FOLDERS, LAYOUT, Bench, bench

from nqrust.cli import signals
from nqrust.contract import paths
from nqrust.host.errors import CommandFailed
from nqrust.host.signals import ENDING
from nqrust.installer import operations
from nqrust.installer.engine.events import Event, Notice, NullReporter
from nqrust.installer.request import Request, RunOptions, Summary
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.symlink import Symlink

__all__ = ["bench"]

LINK = Symlink(paths.NQR_LINK, "/opt/nqrust-microvm/installer/venv/bin/nqr")
FILES = tuple(File(f"/etc/{name}", "x\n") for name in ("one", "two", "three"))


def signalled(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., Summary],
    at: str,
    number: int = signal.SIGINT,
    times: int = 1,
) -> tuple[Summary, list[str]]:
    """Run it as the command line does. The signal arrives while `at` goes."""
    said: list[str] = []

    class Told(NullReporter):
        def emit(self, event: Event) -> None:
            if isinstance(event, Notice):
                said.append(event.text)

    remove = bench.host.remove

    def noticed(path: str, **options: Any) -> None:
        if path == at:
            for _ in range(times):
                os.kill(os.getpid(), number)
        remove(path, **options)

    with monkeypatch.context() as patched, signals.raising():
        patched.setattr(bench.host, "remove", noticed)
        return run(Request(Settings(), RunOptions()), Told()), said


def there(bench: Bench) -> list[str]:
    return [step.path for step in FILES if bench.host.exists(step.path)]


@pytest.mark.parametrize("number", ENDING)
def test_an_uninstall_stops_after_the_current_step(bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    bench.run(LINK, *FILES)
    done, said = signalled(bench, monkeypatch, operations.uninstall, "/etc/two", number, times=4)
    name = signal.Signals(number).name
    assert said == [f"{name} received: finishing the current step."]
    assert (done.outcome, done.exit_code, done.changed) == ("partly_undone", 130, 2) and there(bench) == ["/etc/one"]
    assert done.failure is not None and (done.failure.code, done.failure.what) == ("NQR-ENG-030", f"Stopped by {name}.")
    assert "`nqr uninstall` again" in done.failure.cure and "`nqr install`" in done.failure.cure
    assert [e.step_id for e in bench.receipt.entries] == [LINK.id, "file:/etc/one"]
    assert [run.verb for run in bench.receipt.unfinished] == ["uninstall"], "`nqr status` names it"


def test_both_commands_of_the_cure_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run(*FOLDERS, LINK, *FILES)
    bench.vm()
    signalled(bench, monkeypatch, operations.uninstall, "/etc/two")
    assert bench.run(*FOLDERS, LINK, *FILES).outcome == "ok" and len(there(bench)) == 3 and not bench.receipt.unfinished
    signalled(bench, monkeypatch, operations.uninstall, "/etc/two")
    whole = operations.uninstall(Request(Settings(), RunOptions(purge_data=True)), NullReporter())
    assert whole.outcome == "ok" and not bench.receipt.entries and not bench.host.exists(LAYOUT.data_dir)


def test_a_signal_before_the_first_step_changes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run(LINK, *FILES)
    module = __import__("nqrust.installer.operations.remove", fromlist=["_preload"])
    monkeypatch.setattr(module, "_preload", lambda: os.kill(os.getpid(), signal.SIGTERM))
    rested: list[str] = []
    monkeypatch.setattr("nqrust.installer.engine.verb.Verbs.rest", lambda *_: rested.append("agent"))
    done, _ = signalled(bench, monkeypatch, operations.uninstall, "")
    assert (done.exit_code, done.changed) == (130, 0) and len(there(bench)) == 3 and not rested


@pytest.mark.parametrize("at", [paths.NQR_LINK, "/etc/one"])
def test_an_uninstall_without_nqr_continues_to_its_end(bench: Bench, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Nobody could run `nqr uninstall` again. Only packages and folders are left then."""
    bench.run(*FILES, LINK)
    done, said = signalled(bench, monkeypatch, operations.uninstall, at, signal.SIGHUP, times=4)
    assert (done.outcome, done.exit_code) == ("ok", 0) and not bench.receipt.entries and not there(bench)
    assert said[:2] == [
        "SIGHUP received: finishing the current step.",
        *(["nqr itself is removed already, so the uninstall continues to its end."] if at == paths.NQR_LINK else said[1:2]),
    ]


@pytest.mark.parametrize("number", ENDING)
def test_a_rollback_continues_to_its_end(bench: Bench, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    bench.run(*FOLDERS, LINK)
    bench.vm()
    bench.run(*FILES)
    done, said = signalled(bench, monkeypatch, operations.rollback, "/etc/two", number, times=4)
    assert said == [f"{signal.Signals(number).name} received: nqr completes the rollback."]
    assert (done.outcome, done.exit_code) == ("ok", 0) and not there(bench) and bench.host.exists(DISK)
    assert not bench.receipt.unfinished


def test_a_revert_that_fails_with_the_signal_stays_recorded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd sends SIGTERM to the programs of a revert, too."""
    bench.run(LINK, *FILES)
    remove = bench.host.remove

    def torn(path: str, **options: Any) -> None:
        if path == "/etc/three":
            raise CommandFailed(("dpkg",), -15, "")
        remove(path, **options)

    monkeypatch.setattr(bench.host, "remove", torn)
    done, said = signalled(bench, monkeypatch, operations.uninstall, "/etc/three", signal.SIGTERM)
    assert done.exit_code == 130 and done.changed == 0 and "Could not undo" in said[1]
    assert [e.step_id for e in bench.receipt.entries][-1] == "file:/etc/three"


def test_a_second_step_of_an_uninstall_stops_although_nqr_is_gone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """`uninstall.sh --purge-data` runs from its source tree, and from there it can be repeated."""
    bench.run(*FOLDERS, LINK)
    bench.vm()
    assert operations.uninstall(Request(Settings(), RunOptions()), NullReporter()).outcome == "ok"
    assert bench.host.exists(DISK) and not bench.host.exists(paths.NQR_LINK)
    module = importlib.import_module("nqrust.installer.operations.remove")
    with monkeypatch.context() as patched, signals.raising():
        patched.setattr(module, "_preload", lambda: os.kill(os.getpid(), signal.SIGINT))
        done = operations.uninstall(Request(Settings(), RunOptions(purge_data=True)), NullReporter())
    assert (done.outcome, done.exit_code) == ("partly_undone", 130) and bench.host.exists(DISK)
    assert operations.uninstall(Request(Settings(), RunOptions(purge_data=True)), NullReporter()).outcome == "ok"
    assert not bench.host.exists(DISK)
