"""Random plans, starting hosts, failures and kills prove the promises of the engine.

Invariants: a resumed run ends like an uninterrupted one. A rollback ends like the beginning. The engine never removes
earlier objects. A second run changes nothing.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore

from nqrust.host.errors import CommandFailed
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.receipt import Receipt
from nqrust.installer.engine.rollback import roll_back
from nqrust.installer.engine.runner import Runner
from nqrust.installer.engine.step import Step
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.file.block import Block
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.symlink import Symlink
from nqrust.installer.verbs.registry import VERBS

ORIGINALS = "/var/lib/nqr/originals"
DIRS = ("/etc/a", "/etc/a/b", "/opt/p", "/opt/p/q")
NAMES = ("one", "two", "three")


class PowerLoss(BaseException):
    """SIGKILL in a unit test."""


contents = st.sampled_from(("alpha\n", "beta\n", "gamma\ndelta\n"))
modes = st.sampled_from((0o644, 0o600, 0o755))
paths = st.builds(lambda d, n: f"{d}/{n}", st.sampled_from(DIRS), st.sampled_from(NAMES))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    steps: list[Step] = [Directory(path, mode=draw(modes), adopt_modes=draw(st.booleans())) for path in DIRS]
    for path in draw(st.lists(paths, unique=True, max_size=6)):
        kind = draw(st.sampled_from(("file", "file", "block", "symlink")))
        if kind == "file":
            steps.append(File(path, draw(contents), draw(modes)))
        elif kind == "block":
            steps.append(Block(path, "ours", (draw(contents).strip().splitlines()[0],)))
        else:
            steps.append(Symlink(path, draw(st.sampled_from(("/etc/hostname", "/nowhere")))))
    cut = draw(st.integers(0, len(steps)))
    return Plan((PhasePlan("first", "First", tuple(steps[:cut])), PhasePlan("second", "Second", tuple(steps[cut:]))))


@st.composite
def hosts(draw: st.DrawFn) -> FakeHost:
    host = FakeHost.debian12()
    host.put_directory("/var/lib/nqr", mode=0o700)
    for path in DIRS:
        if host.exists(path.rpartition("/")[0]) and draw(st.booleans()):
            host.put_directory(path, mode=draw(modes) | 0o700)
            for name in NAMES:
                if draw(st.booleans()):
                    host.put(f"{path}/{name}", draw(contents), mode=draw(modes))
    return host


def state(host: FakeHost) -> object:
    return host.state(ignore=("/var/lib/nqr",))


class Bench:
    """A host with its journal, as one process after another finds them."""

    def __init__(self, host: FakeHost) -> None:
        self.host, self.store = host, MemoryJournalStore()

    def journal(self) -> Journal:
        return Journal(self.store, self.host.now)

    def install(self, plan: Plan, keep: bool = False) -> object:
        runner = Runner(VERBS, self.host, self.journal(), Originals(self.host, ORIGINALS), NullReporter(), keep_on_failure=keep)
        return runner.run(plan, "install", "1", {})

    def uninstall(self) -> object:
        journal = self.journal()
        context = UndoContext(self.host, Originals(self.host, ORIGINALS))
        return roll_back(VERBS, context, journal, "u", Receipt.of(journal).entries, NullReporter())


@settings(max_examples=150, deadline=None)
@given(hosts(), plans())
def test_uninstall_after_install_restores_the_host(host: FakeHost, plan: Plan) -> None:
    before = state(host)
    bench = Bench(host)
    result = bench.install(plan)
    if result.outcome != "ok":  # a symlink step may refuse a file that is there
        assert state(host) == before
        return
    installed = state(host)
    again = bench.install(plan)
    assert (again.outcome, again.changed) == ("ok", 0)
    assert state(host) == installed
    gone = bench.uninstall()
    assert not gone.failed and not gone.kept
    assert state(host) == before


@settings(max_examples=150, deadline=None)
@given(hosts(), plans(), st.integers(1, 25), st.booleans())
def test_a_failure_anywhere_rolls_back_to_the_beginning(host: FakeHost, plan: Plan, at: int, after: bool) -> None:
    before = state(host)
    bench = Bench(host)
    host.fail_at(at, CommandFailed(("x",), 1, "no"), after=after)
    result = bench.install(plan)
    if result.outcome == "failed":  # the failure hit the way back (or came before the first change): once more
        assert not bench.uninstall().failed
    if result.outcome != "ok":
        assert state(host) == before


@settings(max_examples=200, deadline=None)
@given(hosts(), plans(), st.integers(1, 25), st.booleans(), st.booleans())
def test_install_killed_anywhere_resumes_or_rolls_back(host: FakeHost, plan: Plan, at: int, after: bool, resume: bool) -> None:
    before = state(host)
    reference = Bench(host.copy())
    clean = reference.install(plan)
    bench = Bench(host)
    host.fail_at(at, PowerLoss(), after=after)
    try:
        bench.install(plan)
    except PowerLoss:
        pass
    host.fail_at(10_000, PowerLoss())
    if clean.outcome == "ok" and resume:
        assert bench.install(plan).outcome == "ok"
        assert state(host) == state(reference.host)
    result = bench.uninstall()
    assert not result.failed
    assert state(host) == before


@settings(max_examples=100, deadline=None)
@given(hosts(), plans(), st.integers(1, 25), st.booleans())
def test_uninstall_killed_anywhere_is_finished_by_the_next(host: FakeHost, plan: Plan, at: int, after: bool) -> None:
    before = state(host)
    bench = Bench(host)
    if bench.install(plan).outcome != "ok":
        return
    host.fail_at(at, PowerLoss(), after=after)
    try:
        bench.uninstall()
    except PowerLoss:
        pass
    host.fail_at(10_000, PowerLoss())
    assert not bench.uninstall().failed
    assert state(host) == before
