"""The kill matrix in memory: random plans, killed repeatedly before or after any journal record."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore

from nqrust.installer.engine.errors import Interrupted
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.receipt import Receipt, unfinished_entries
from nqrust.installer.engine.rollback import RollbackResult, roll_back
from nqrust.installer.engine.runner import Runner, RunResult, new_run_id
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.symlink import Symlink
from nqrust.installer.verbs.registry import VERBS

STATE = "/var/lib/nqr"


class Killed(BaseException):
    """SIGKILL."""


class KillingStore(MemoryJournalStore):
    """End the process before or after its n-th append."""

    before = after = count = 0

    def append(self, line: bytes) -> None:
        self.count += 1
        if self.count == self.before:
            raise Killed
        super().append(line)
        if self.count == self.after:
            raise Killed

    def next_process(self, *, before: int = 0, after: int = 0) -> None:
        self.before, self.after, self.count = before, after, 0


kills = st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=12)
contents = st.sampled_from(("alpha\n", "beta\n"))


@st.composite
def hosts_and_plans(draw: st.DrawFn) -> tuple[FakeHost, Plan]:
    host = FakeHost.debian12()
    host.put_directory(STATE, mode=0o700)
    steps: list[Directory | File | Symlink] = []
    for folder in ("/opt/p", "/opt/p/q", "/etc/p"):
        if draw(st.booleans()) and host.exists(folder.rpartition("/")[0]):
            host.put_directory(folder)
        steps.append(Directory(folder, adopt_modes=True))
        for name in draw(st.lists(st.sampled_from("abc"), unique=True)):
            path = f"{folder}/{name}"
            if draw(st.booleans()):
                if host.exists(folder) and draw(st.booleans()):
                    host.put(path, draw(contents))
                steps.append(File(path, draw(contents)))
            else:
                steps.append(Symlink(path, "/nowhere"))
    return host, Plan((PhasePlan("only", "Only", tuple(steps)),))


class Bench:
    def __init__(self, host: FakeHost) -> None:
        self.host, self.store = host, KillingStore()

    @property
    def receipt(self) -> Receipt:
        return Receipt.of(Journal(self.store, self.host.now))

    def state(self) -> object:
        return self.host.state(ignore=(STATE,))

    def runner(self) -> Runner:
        originals = Originals(self.host, f"{STATE}/originals")
        return Runner(VERBS, self.host, Journal(self.store, self.host.now), originals, NullReporter())

    def install(self, plan: Plan) -> RunResult:
        return self.runner().run(plan, "install", "1", {})

    def go_back(self, *, all_of_it: bool) -> RollbackResult:
        journal = Journal(self.store, self.host.now)
        receipt = Receipt.of(journal)
        ids = set(unfinished_entries(receipt))
        entries = receipt.entries if all_of_it else receipt.of_runs(ids)
        journal.append("run", new_run_id(), verb="rollback", version="", settings={}, resumes=sorted(ids))
        context = UndoContext(self.host, Originals(self.host, f"{STATE}/originals"))
        return roll_back(VERBS, context, journal, "back", entries, NullReporter())

    def uninstall(self) -> None:
        """Uninstall as `nqr uninstall` does, to the end."""
        journal = Journal(self.store, self.host.now)
        receipt, run = Receipt.of(journal), new_run_id()
        resumes = sorted(receipt.with_continued(run.id for run in receipt.unfinished))
        journal.append("run", run, verb="uninstall", version="", settings={}, resumes=resumes)
        context = UndoContext(self.host, Originals(self.host, f"{STATE}/originals"))
        roll_back(VERBS, context, journal, run, receipt.entries, NullReporter())
        journal.append("end", run, outcome="ok")

    def chained(self, kills: list[tuple[bool, int]], action: object) -> None:
        for before, number in kills:
            self.store.next_process(**{"before" if before else "after": number})
            try:
                action()  # type: ignore[operator]
            except Killed:
                continue
            break
        self.store.next_process()


@settings(max_examples=60)
@given(hosts_and_plans(), kills, kills)
def test_chain_of_kills_ends_like_one_run_and_uninstalls_cleanly(
    made: tuple[FakeHost, Plan], on_the_way: list[tuple[bool, int]], on_the_way_back: list[tuple[bool, int]]
) -> None:
    host, plan = made
    whole, bench = Bench(host.copy()), Bench(host)
    before = bench.state()
    outcome = whole.install(plan).outcome
    bench.chained(on_the_way, lambda: bench.install(plan))
    assert bench.install(plan).outcome == outcome
    assert bench.state() == whole.state()
    assert not bench.receipt.unfinished
    if outcome == "ok":
        assert bench.install(plan).changed == 0
        assert all(entry.done for entry in bench.receipt.entries), "nothing that is complete stays open"
    bench.chained(on_the_way_back, lambda: bench.go_back(all_of_it=True))
    assert not bench.go_back(all_of_it=True).failed
    assert bench.state() == before
    assert not bench.receipt.entries


@settings(max_examples=60)
@given(hosts_and_plans(), kills, kills)
def test_rollback_after_any_chain_of_kills_restores_the_host(
    made: tuple[FakeHost, Plan], on_the_way: list[tuple[bool, int]], on_the_way_back: list[tuple[bool, int]]
) -> None:
    host, plan = made
    bench = Bench(host)
    before = bench.state()
    bench.chained(on_the_way, lambda: bench.install(plan))
    bench.chained(on_the_way_back, lambda: bench.go_back(all_of_it=False))
    bench.go_back(all_of_it=False)
    assert bench.state() == before


@settings(max_examples=60)
@given(hosts_and_plans(), kills, st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=1, max_size=3), st.booleans())
def test_an_install_finishes_an_interrupted_uninstall(
    made: tuple[FakeHost, Plan], on_the_way: list[tuple[bool, int]], taking_away: list[tuple[bool, int]], ends: bool
) -> None:
    """Whether the first install had ended or not, and one rollback takes back all that the second one made."""
    host, plan = made
    whole, bench = Bench(host.copy()), Bench(host)
    before = bench.state()
    assume(whole.install(plan).outcome == "ok")
    bench.chained(on_the_way, lambda: bench.install(plan))
    if ends:
        bench.install(plan)
    unfinished = bool(bench.receipt.unfinished)
    bench.chained(taking_away, bench.uninstall)
    last = bench.install(plan)
    assert last.outcome == "ok" and bench.state() == whole.state()
    assert not bench.receipt.unfinished, "status, doctor and rotate have nothing to complain about"
    if unfinished:
        assert not bench.go_back(all_of_it=False).failed
        assert bench.state() == before, "nothing of the first run stays below, and nothing of it goes first"
    assert not bench.go_back(all_of_it=True).failed
    assert bench.state() == before


@settings(max_examples=60)
@given(hosts_and_plans(), kills, st.integers(0, 9))
def test_interrupt_during_a_proof_rolls_back(
    made: tuple[FakeHost, Plan], on_the_way: list[tuple[bool, int]], killed_at: int
) -> None:
    host, plan = made
    bench = Bench(host)
    before = bench.state()
    bench.chained(on_the_way, lambda: bench.install(plan))
    runner = bench.runner()
    result = runner.run(plan, "install", "1", {})
    assume(result.failure is None)
    bench.store.next_process(after=killed_at)
    unchanged = bench.state()
    with suppress(Killed):
        runner.take_back(result, Interrupted("NQR-ENG-030", "Stopped by SIGINT.", "Run the same command again."))
        if result.changed == 0 and result.outcome == "failed":
            assert bench.state() == unchanged, "an earlier run's work is not this one's to take back"
        else:
            assert result.outcome == "rolled_back" and bench.state() == before
    bench.store.next_process()
    assert not bench.go_back(all_of_it=True).failed
    assert bench.state() == before


def test_a_phase_alone_does_not_finish_an_interrupted_install() -> None:
    host = FakeHost.debian12()
    host.put_directory(STATE, mode=0o700)
    bench = Bench(host)
    before = bench.state()
    phases = [PhasePlan(name, "t", (File(f"/etc/{name}", "x"),)) for name in ("first", "second", "third")]
    whole = Plan(tuple(phases))
    for name in ("second", "first"):  # the first one is done already
        bench.store.next_process(after=3)
        with suppress(Killed):
            bench.install(whole)
        bench.store.next_process()
        alone = Plan(tuple(phase for phase in phases if phase.name == name))
        assert bench.runner().run(alone, "install", "1", {}, part=True).outcome == "ok"
        assert [run.verb for run in bench.receipt.unfinished] == ["install"], "`nqr status` still says so"
        assert not bench.go_back(all_of_it=False).failed and bench.state() == before, "and a rollback takes back both"
        bench.store.data = b""
    bench.store.next_process(after=3)
    with suppress(Killed):
        bench.install(whole)
    bench.store.next_process()
    bench.runner().run(Plan((phases[2],)), "install", "1", {}, part=True)
    done = bench.install(whole)
    assert (done.outcome, done.resumed, done.changed) == ("ok", True, 1) and not bench.receipt.unfinished


class FillingStore(KillingStore):
    """From the n-th append on, only the space reserved for a rollback is free."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def append(self, line: bytes) -> None:
        super().append(line)
        self.cramped = self.count >= self.room


@settings(max_examples=60)
@given(hosts_and_plans(), st.integers(1, 20))
def test_full_disk_rolls_the_run_back(made: tuple[FakeHost, Plan], room: int) -> None:
    host, plan = made
    whole = Bench(host.copy())
    assume(whole.install(plan).failure is None)
    bench = Bench(host)
    bench.store = FillingStore(room)
    before = bench.state()
    result = bench.install(plan)
    if result.failure is None:
        assert bench.state() == whole.state()
    else:
        assert (result.outcome, result.failure.code) == ("rolled_back", "NQR-ENG-013")
        assert bench.state() == before and not bench.receipt.entries


class Surprising(File):
    """A step with a bug: it raises an unexpected error."""

    def apply(self, host: object) -> None:
        super().apply(host)  # type: ignore[arg-type]
        raise ZeroDivisionError("a defect")


def test_installer_bug_rolls_back_like_any_failure() -> None:
    host = FakeHost.debian12()
    host.put_directory(STATE, mode=0o700)
    bench = Bench(host)
    before = bench.state()
    result = bench.install(Plan((PhasePlan("p", "P", (File("/etc/one", "1\n"), Surprising("/etc/two", "2\n"))),)))
    assert result.outcome == "rolled_back"
    assert result.failure is not None and result.failure.code == "NQR-ENG-999"
    assert "/etc/two" in result.failure.what and "ZeroDivisionError" in result.failure.what
    assert bench.state() == before


def test_a_clock_that_jumps_back_changes_nothing() -> None:
    host = FakeHost.debian12()
    host.put_directory(STATE, mode=0o700)
    bench = Bench(host)
    before = bench.state()
    plan = Plan((PhasePlan("p", "P", (File("/etc/one", "1\n"), File("/etc/two", "2\n"))),))
    times = iter([4e9, 3e9, 2e9, 1e9, 5e8, 4e8, 3e8, 2e8, 1e8, *[0.0] * 50])
    bench.store.next_process(after=3)
    try:
        Runner(VERBS, host, Journal(bench.store, lambda: next(times)), Originals(host, f"{STATE}/originals"), NullReporter()).run(
            plan, "install", "1", {}
        )
    except Killed:
        pass
    bench.store.next_process()
    journal = Journal(bench.store, lambda: next(times))
    Runner(VERBS, host, journal, Originals(host, f"{STATE}/originals"), NullReporter()).run(plan, "install", "1", {})
    assert host.exists("/etc/two")
    assert not bench.go_back(all_of_it=True).failed
    assert bench.state() == before
