"""A signal stops a run after the step in hand, whether that step ends well or not."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import ClassVar

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.engine.test_kill_chains import KillingStore
from tests.unit.installer.engine.test_retire import STATE

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Host
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.interrupt import Interruption
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.receipt import Receipt
from nqrust.installer.engine.rollback import RollbackResult, roll_back
from nqrust.installer.engine.runner import Runner, RunResult
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.undo import undo_file
from nqrust.installer.verbs.registry import VERBS
from nqrust.installer.verbs.service.undo import undo_unit


@dataclass(frozen=True)
class Signalled:
    """A step during which a signal arrives. `fails`: its program gets the signal too."""

    interruption: Interruption
    arrives: bool
    fails: bool

    id: ClassVar[str] = "signalled"
    kind: ClassVar[str] = "signalled"

    def describe(self) -> str:
        return "run a program"

    def inspect(self, host: Host) -> Inspection:
        return Needed(("~",))

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, ())

    def apply(self, host: Host) -> None:
        if self.arrives:
            self.interruption.signal = signal.SIGTERM
        if self.fails:
            raise CommandFailed(("program",), -15, "")

    def verify(self, host: Host) -> None:
        pass


def outcome(*, arrives: bool, fails: bool) -> tuple[RunResult, FakeHost]:
    host, interruption = FakeHost.debian12(), Interruption()
    host.put_directory(STATE, mode=0o700)
    steps = (Directory("/opt/ours"), Signalled(interruption, arrives, fails))
    runner = Runner(
        VERBS, host, Journal(KillingStore(), host.now), Originals(host, f"{STATE}/originals"), NullReporter(),
        interruption=interruption,
    )  # fmt: skip
    return runner.run(Plan((PhasePlan("only", "Only", steps),)), "install", "1", {}), host


@pytest.mark.parametrize("fails", [False, True])
def test_run_stops_after_the_step_in_hand(fails: bool) -> None:
    result, host = outcome(arrives=True, fails=fails)
    assert result.failure is not None and (result.failure.code, result.failure.exit_code) == ("NQR-ENG-030", 130)
    assert "SIGTERM" in result.failure.what
    assert result.outcome == "rolled_back" and not host.exists("/opt/ours")


def test_step_that_fails_without_a_signal_is_no_interruption() -> None:
    result, _ = outcome(arrives=False, fails=True)
    assert result.failure is not None and result.failure.code == "NQR-ENG-001"


def test_a_rollback_that_stops_leaves_the_restarts_to_the_next() -> None:
    """A service that ran before would otherwise start with files of which only some are back."""
    host = FakeHost.debian12()
    host.put_directory("/run/systemd/system")
    host.put_directory(STATE, mode=0o700)
    host.on("systemctl", prefix=True, changes=True)
    host.put("/etc/app.conf", "new")
    journal, originals = Journal(KillingStore(), host.now), Originals(host, f"{STATE}/originals")
    journal.append("run", "r", verb="install", version="1", settings={}, resumes=[])
    for undo in (undo_file("/etc/app.conf", ours_sha256=None), undo_unit("systemd", "app.service", enabled=True, active=True)):
        step = {"id": undo.verb, "kind": "k", "phase": "p", "describe": "d"}
        kept = VERBS.capture(originals, undo).to_json()
        journal.append("begin", "r", step=step, origin="created", undo=[kept])

    def back(*answers: bool) -> RollbackResult:
        asked = iter(answers)
        context = UndoContext(host, originals)
        entries = Receipt.of(journal).entries
        return roll_back(VERBS, context, journal, "u", entries, NullReporter(), stops=lambda: next(asked, False))

    def restarts() -> int:
        return sum(cmd.argv[1] == "restart" for cmd in host.commands)

    stopped = back(False, False, True)  # before anything, before the first entry, before the second
    assert stopped.stopped and stopped.undone == 1 and restarts() == 0 and len(Receipt.of(journal).entries) == 2
    whole = back()
    assert not whole.stopped and whole.undone == 2 and restarts() == 1 and not Receipt.of(journal).entries
