"""A run refuses obstacles before its first change, and reports each object that it replaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore

from nqrust.installer.engine.events import Event, Notice
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.runner import Runner, RunResult
from nqrust.installer.engine.step import Conflict, Inspection, Prepared, Step
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.symlink import Symlink
from nqrust.installer.verbs.registry import VERBS

STATE = "/var/lib/nqr"


@dataclass(frozen=True)
class InTheWay:
    """A conflict if the host has `path`."""

    kind: ClassVar[str] = "in-the-way"
    path: str

    @property
    def id(self) -> str:
        return f"in-the-way:{self.path}"

    def describe(self) -> str:
        return f"take {self.path}"

    def inspect(self, host: FakeHost) -> Inspection:  # type: ignore[override]
        if host.exists(self.path):
            return Conflict("NQR-CFG-101", f"{self.path} is another's.", "Move it away.")
        raise AssertionError("never asked in these tests")

    def prepare(self, host: FakeHost) -> Prepared:  # type: ignore[override]
        raise NotImplementedError

    def apply(self, host: FakeHost) -> None:  # type: ignore[override]
        raise NotImplementedError

    def verify(self, host: FakeHost) -> None:  # type: ignore[override]
        raise NotImplementedError


class Ears:
    def __init__(self) -> None:
        self.told: list[Notice] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.told.append(event)


class Bench:
    def __init__(self) -> None:
        self.host, self.store, self.ears = FakeHost.debian12(), MemoryJournalStore(), Ears()
        self.host.put_directory(STATE, mode=0o700)

    def run(self, *steps: Step) -> RunResult:
        journal = Journal(self.store, self.host.now)
        runner = Runner(VERBS, self.host, journal, Originals(self.host, f"{STATE}/originals"), self.ears)
        return runner.run(Plan((PhasePlan("p", "P", steps),)), "install", "1", {})


def test_conflict_in_a_later_step_refuses_before_the_first_change() -> None:
    bench = Bench()
    bench.host.put("/srv/theirs", "x")
    before = bench.host.state()
    result = bench.run(File("/etc/one", "1\n"), InTheWay("/srv/theirs"))  # type: ignore[arg-type]
    assert result.outcome == "refused" and result.failure is not None and result.failure.code == "NQR-CFG-101"
    assert bench.host.state() == before and bench.host.mutations == []
    assert not Journal(bench.store, bench.host.now).records


def test_conflict_found_during_the_run_rolls_back() -> None:
    bench = Bench()
    bench.host.put_directory("/srv")
    late = File("/srv/link", "x\n")
    result = bench.run(File("/etc/one", "1\n"), Symlink("/srv/link", "/etc/one"), late)
    assert result.outcome == "rolled_back" and not bench.host.exists("/etc/one")


def test_replaced_file_is_reported_once() -> None:
    bench = Bench()
    bench.host.put("/etc/one", "of alice\n")
    bench.host.put_symlink("/home/alice/tool", "/etc/two")
    assert bench.run(File("/etc/one", "1\n"), Symlink("/etc/two", "/etc/one"), File("/etc/three", "3\n")).outcome == "ok"
    assert [(one.severity, one.code) for one in bench.ears.told] == [("warning", "NQR-ENG-016")] * 2
    assert "/etc/one" in bench.ears.told[0].text and "/etc/two" in bench.ears.told[1].text
    bench.ears.told.clear()
    assert bench.run(File("/etc/one", "2\n"), File("/etc/three", "4\n")).outcome == "ok"
    assert bench.ears.told == [], "what it wrote itself it replaces without a word"
