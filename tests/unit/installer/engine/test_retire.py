"""A run removes what the plan no longer contains: random pairs of plans, with kills and failures anywhere.

Invariants: a re-run ends like a fresh install of the new plan. A run after it changes nothing. A run that was killed at any
journal record and resumed ends the same. A failure before the end of the changes has removed nothing. Uninstall ends like
the beginning.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.host import FakeHost
from tests.unit.installer.engine.test_kill_chains import Killed, KillingStore

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Host
from nqrust.installer.engine.events import Event, NullReporter, StepFinished
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.receipt import Receipt, unfinished_entries
from nqrust.installer.engine.retire import MAKES_WAY, orphans
from nqrust.installer.engine.rollback import RollbackResult, roll_back
from nqrust.installer.engine.runner import Runner, RunResult
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied, Step
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.operations.reinstating import has_retired, settings_before
from nqrust.installer.verbs.file.block import Block
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.symlink import Symlink
from nqrust.installer.verbs.file.undo import undo_directory, undo_file
from nqrust.installer.verbs.registry import VERBS

STATE = "/var/lib/nqr"
FOLDERS = ("/etc/p", "/etc/p/q", "/opt/p")
FILES = tuple(f"{folder}/{name}" for folder in FOLDERS for name in ("file", "block", "link"))
contents = st.sampled_from(("alpha\n", "beta\n"))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """The kind of a path never differs; its presence in the plan and its content do."""
    chosen = draw(st.lists(st.sampled_from(FILES), unique=True, max_size=6))
    needed = {path.rpartition("/")[0] for path in chosen} | ({"/etc/p"} if any("/q/" in path for path in chosen) else set())
    steps: list[Step] = [Directory(path) for path in FOLDERS if path in needed]
    for path in chosen:
        if path.endswith("file"):
            steps.append(File(path, draw(contents)))
        elif path.endswith("block"):
            steps.append(Block(path, "ours", ("alpha",)))
        else:
            steps.append(Symlink(path, "/nowhere"))
    return Plan((PhasePlan("only", "Only", tuple(steps)),))


@st.composite
def hosts(draw: st.DrawFn) -> FakeHost:
    host = FakeHost.debian12()
    host.put_directory(STATE, mode=0o700)
    for folder in FOLDERS:
        if host.exists(folder.rpartition("/")[0]) and draw(st.booleans()):
            host.put_directory(folder)
            for name in ("file", "block", "somebody's"):
                if draw(st.booleans()):
                    host.put(f"{folder}/{name}", "before\n")
    return host


class Bench:
    def __init__(self, host: FakeHost) -> None:
        self.host, self.store = host, KillingStore()

    def journal(self) -> Journal:
        return Journal(self.store, self.host.now)

    @property
    def receipt(self) -> Receipt:
        return Receipt.of(self.journal())

    def state(self) -> object:
        return self.host.state(ignore=(STATE,))

    def run(self, plan: Plan, *, keep: bool = False) -> RunResult:
        originals = Originals(self.host, f"{STATE}/originals")
        runner = Runner(VERBS, self.host, self.journal(), originals, NullReporter(), keep_on_failure=keep)
        return runner.run(plan, "install", "1", {"some": "settings"}, retiring=True)

    def back(self, entries: object = None) -> RollbackResult:
        journal = self.journal()
        context = UndoContext(self.host, Originals(self.host, f"{STATE}/originals"))
        wanted = Receipt.of(journal).entries if entries is None else entries
        return roll_back(VERBS, context, journal, "u", wanted, NullReporter())  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(hosts(), plans(), plans())
def test_a_re_run_ends_like_a_fresh_install(host: FakeHost, first: Plan, second: Plan) -> None:
    bench, fresh = Bench(host), Bench(host.copy())
    before = bench.state()
    assert fresh.run(second).outcome == "ok"
    assert bench.run(first).outcome == "ok"
    changed = bench.run(second)
    assert changed.outcome == "ok" and not changed.retired.failed
    assert bench.state() == fresh.state()
    assert {e.step_id for e in bench.receipt.entries} >= {e.step_id for e in fresh.receipt.entries}
    again = bench.run(second)
    assert (again.outcome, again.changed) == ("ok", 0) and bench.state() == fresh.state()
    assert not bench.back().failed and bench.state() == before


@settings(max_examples=150, deadline=None)
@given(hosts(), plans(), plans(), st.integers(1, 40), st.booleans(), st.booleans())
def test_a_kill_at_any_record_of_the_change_resumes(
    host: FakeHost, first: Plan, second: Plan, at: int, before_it: bool, remove: bool
) -> None:
    bench, fresh = Bench(host), Bench(host.copy())
    before = bench.state()
    fresh.run(second)
    bench.run(first)
    bench.store.next_process(**{"before" if before_it else "after": at})
    with suppress(Killed):
        bench.run(second)
    bench.store.next_process()
    if not remove:
        assert bench.run(second).outcome == "ok"
        assert bench.state() == fresh.state()
        assert bench.run(second).changed == 0
    assert not bench.back().failed and bench.state() == before


@settings(max_examples=100, deadline=None)
@given(hosts(), plans(), plans())
def test_a_failure_before_the_new_state_is_complete_has_retired_nothing(host: FakeHost, first: Plan, second: Plan) -> None:
    bench = Bench(host)
    bench.run(first)
    installed = bench.state()
    broken = Plan((*second.phases, PhasePlan("last", "Last", (NeverWorks(),))))
    result = bench.run(broken)
    assert result.outcome == "rolled_back" and not result.retired.gone
    assert bench.state() == installed


@settings(max_examples=100, deadline=None)
@given(hosts(), plans(), plans())
def test_retired_step_can_be_requested_again(host: FakeHost, first: Plan, second: Plan) -> None:
    bench = Bench(host)
    before = bench.state()
    bench.run(first)
    installed = bench.state()
    bench.run(second)
    assert bench.run(first).outcome == "ok"
    assert bench.state() == installed
    assert not bench.back().failed and bench.state() == before


@dataclass(frozen=True)
class NeverWorks:
    kind: ClassVar[str] = "never"
    id: str = "never"

    def describe(self) -> str:
        return "do what cannot be done"

    def inspect(self, host: Host) -> Inspection:
        return Needed()

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, ())

    def apply(self, host: Host) -> None:
        raise CommandFailed(("x",), 1, "no")

    def verify(self, host: Host) -> None: ...


@dataclass(frozen=True)
class Thing:
    """A file with a kind and a reason to keep it."""

    path: str
    kind: str = "thing"
    retain: Retain = Retain.nothing

    @property
    def id(self) -> str:
        return f"{self.kind}:{self.path}"

    def describe(self) -> str:
        return f"make {self.path}"

    def inspect(self, host: Host) -> Inspection:
        return Satisfied() if host.exists(self.path) else Needed((f"+ {self.path}",))

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.created, (undo_file(self.path, ours_sha256=None, retain=self.retain),))

    def apply(self, host: Host) -> None:
        host.write_file(self.path, b"x")

    def verify(self, host: Host) -> None: ...


def plan(*steps: Step, keeps: tuple[str, ...] = (), gives_up: tuple[str, ...] = ()) -> Plan:
    return Plan((PhasePlan("only", "Only", steps, keeps=keeps, gives_up=gives_up),))


def a_bench() -> Bench:
    host = FakeHost.debian12()
    host.put_directory(STATE, mode=0o700)
    return Bench(host)


def test_retiring_keeps_and_reports_data() -> None:
    bench = a_bench()
    bench.run(plan(Thing("/etc/disk", retain=Retain.data), Thing("/etc/db", retain=Retain.database), Thing("/etc/a")))
    result = bench.run(plan(Thing("/etc/b")))
    assert result.retired.gone == ("thing:/etc/a",) and result.changed == 2
    assert [s for s in result.retired.stays if "/etc/disk is data and stays" in s]
    assert bench.host.exists("/etc/disk") and bench.host.exists("/etc/db") and not bench.host.exists("/etc/a")
    assert {e.step_id for e in bench.receipt.entries} == {"thing:/etc/disk", "thing:/etc/db", "thing:/etc/b"}


def test_phase_keeps_or_retires_each_step_as_declared() -> None:
    bench = a_bench()
    bench.run(plan(Thing("/etc/v1-a"), Thing("/etc/v2-a"), Thing("/etc/v2-b")))
    result = bench.run(plan(Thing("/etc/v2-a"), keeps=("*:/etc/v*",), gives_up=("*:/etc/v2-*",)))
    assert result.retired.gone == ("thing:/etc/v2-b",)
    assert bench.host.exists("/etc/v1-a")


def test_a_folder_that_holds_more_stays_recorded_until_it_is_empty() -> None:
    bench = a_bench()
    bench.run(plan(Directory("/etc/p"), File("/etc/p/a", "x")))
    bench.host.put("/etc/p/somebody's", "theirs")
    result = bench.run(plan())
    assert result.retired.gone == ("file:/etc/p/a",) and not result.retired.failed
    assert bench.host.exists("/etc/p/somebody's") and bench.run(plan()).changed == 0
    bench.host.remove("/etc/p/somebody's")
    assert not bench.back().failed and not bench.host.exists("/etc/p")


def test_a_folder_that_services_share_stays_when_the_one_that_made_it_goes() -> None:
    @dataclass(frozen=True)
    class Makes(Thing):
        def prepare(self, host: Host) -> Prepared:
            prepared = super().prepare(host)
            return Prepared(prepared.origin, (undo_directory("/etc/run"), undo_directory("/etc/run/keys"), *prepared.undo))

        def apply(self, host: Host) -> None:
            host.mkdir("/etc/run")
            host.mkdir("/etc/run/keys")
            super().apply(host)

    bench = a_bench()
    bench.run(plan(Makes("/etc/run/keys/a"), Thing("/etc/run/keys/b")))
    result = bench.run(plan(Thing("/etc/run/keys/b")))
    assert result.retired.gone == ("thing:/etc/run/keys/a",) and result.retired.kept == ()
    assert bench.host.exists("/etc/run/keys/b") and not bench.host.exists("/etc/run/keys/a")


def test_displaced_step_returns_only_when_the_run_fails() -> None:
    bench = a_bench()
    bench.run(plan(Thing("/etc/old")))
    way, new = Thing("/etc/way", kind=MAKES_WAY), Thing("/etc/new")
    assert bench.run(plan(way, new, NeverWorks())).outcome == "rolled_back"
    assert not bench.host.exists("/etc/way") and bench.host.exists("/etc/old")
    result = bench.run(plan(way, new))
    assert result.retired.gone == ("thing:/etc/old",)
    assert [e.step_id for e in bench.receipt.entries] == ["thing:/etc/new"], "void: nothing brings the old one back"


def test_plan_lists_retired_steps_and_changes_nothing() -> None:
    heard: list[Event] = []

    class Hears(NullReporter):
        def emit(self, event: Event) -> None:
            heard.append(event)

    bench = a_bench()
    bench.run(plan(Directory("/etc/p"), File("/etc/p/a", "x"), File("/etc/hostname", "new")))
    before, records = bench.state(), len(bench.journal().records)
    runner = Runner(VERBS, bench.host, bench.journal(), Originals(bench.host, f"{STATE}/originals"), Hears())
    assert runner.preview(plan(), retiring=True).changed == 3 and bench.run(plan()).changed == 3
    assert len(bench.journal().records) > records and bench.state() != before
    said = [getattr(e, "describe", "") for e in heard]
    assert [s for s in said if s] == ["put back /etc/hostname as it was before", "remove /etc/p/a", "remove /etc/p/"]


def test_an_undo_that_fails_stays_recorded_and_is_tried_again() -> None:
    bench = a_bench()
    bench.run(plan(Thing("/etc/a"), Thing("/etc/b")))
    bench.host.fail_at(1, CommandFailed(("rm",), 1, "busy"))
    result = bench.run(plan(Thing("/etc/a")))
    assert result.outcome == "failed" and result.failure is not None and result.failure.code == "NQR-ENG-005"
    assert [e.step_id for e in orphans(bench.receipt, plan(Thing("/etc/a")))] == ["thing:/etc/b"]
    assert bench.run(plan(Thing("/etc/a"))).retired.gone == ("thing:/etc/b",)


def test_a_rollback_of_the_run_knows_that_something_was_retired() -> None:
    bench = a_bench()
    bench.run(plan(Thing("/etc/a")))
    first = set(unfinished_entries(bench.receipt))
    assert not has_retired(bench.journal(), first)
    bench.run(plan(Thing("/etc/b")))
    last = set(unfinished_entries(bench.receipt))
    assert last != first and has_retired(bench.journal(), last)
    bench.back(bench.receipt.of_runs(last))
    assert settings_before(bench.receipt, last) is None, "these are no settings of a version that we know"
    assert not bench.host.exists("/etc/b") and bench.run(plan(Thing("/etc/a"))).changed == 1


def test_a_rollback_after_a_kill_while_retiring_goes_back_to_the_settings_before() -> None:
    """The run that completed the removal recorded the new settings again. They belong to the run that made the change."""
    bench = a_bench()
    originals = Originals(bench.host, f"{STATE}/originals")

    def install(settings: str, *steps: Step) -> None:
        runner = Runner(VERBS, bench.host, bench.journal(), originals, NullReporter())
        runner.run(plan(*steps), "install", "1", {"are": settings}, retiring=True)

    install("old", Thing("/etc/a"))
    bench.store.next_process(after=5)  # run, begin, done, end, run
    with suppress(Killed):
        install("new", Thing("/etc/b"))
    bench.store.next_process()
    assert bench.host.exists("/etc/a") and bench.receipt.unfinished[0].retiring
    assert bench.receipt.last_settings == {"are": "new"}
    made = set(unfinished_entries(bench.receipt))
    assert bench.receipt.of_runs(made)[0].step_id == "thing:/etc/b", "not the retiring alone, which made nothing"
    install("new", Thing("/etc/b"))
    assert not bench.host.exists("/etc/a") and not bench.receipt.unfinished
    ids = set(unfinished_entries(bench.receipt))
    bench.back(bench.receipt.of_runs(ids))
    journal = bench.journal()
    for id in ids:
        journal.append("end", id, outcome="rolled_back")
    assert bench.receipt.last_settings == {"are": "old"}


def test_step_of_several_runs_is_reported_once() -> None:
    heard: list[Event] = []

    class Hears(NullReporter):
        def emit(self, event: Event) -> None:
            heard.append(event)

    bench = a_bench()
    for text in ("one", "two", "three"):
        bench.run(plan(File("/etc/a", text)))
    runner = Runner(VERBS, bench.host, bench.journal(), Originals(bench.host, f"{STATE}/originals"), Hears())
    assert runner.run(plan(), "install", "1", {}, retiring=True).retired.gone == ("file:/etc/a",)
    assert [e.describe for e in heard if isinstance(e, StepFinished)] == ["remove /etc/a"]


def test_receipt_returns_the_settings_in_force_before_a_run() -> None:
    bench = a_bench()
    originals = Originals(bench.host, f"{STATE}/originals")
    ids = []
    for mode, path in (("minimal", "/etc/a"), ("manager", "/etc/b")):
        runner = Runner(VERBS, bench.host, bench.journal(), originals, NullReporter())
        ids.append(runner.run(plan(Thing(path)), "install", "1", {"mode": mode}, retiring=True).run)
    before = settings_before(bench.receipt, {ids[1]})
    assert before is not None and before.mode.value == "minimal"
    assert settings_before(bench.receipt, {ids[0]}) is None


def test_step_with_a_new_id_keeps_its_file() -> None:
    bench = a_bench()
    before = bench.state()
    bench.run(plan(Thing("/etc/a", kind="earlier")))
    result = bench.run(plan(Thing("/etc/a", kind="later")))
    assert result.outcome == "ok" and result.retired.gone == ("earlier:/etc/a",)
    assert bench.host.exists("/etc/a") and [e.step_id for e in bench.receipt.entries] == ["later:/etc/a"]
    assert bench.run(plan(Thing("/etc/a", kind="later"))).changed == 0
    assert not bench.back().failed and bench.state() == before
