"""The gate: work under the lock, and an undo script that is current after every result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore

from nqrust.contract import paths
from nqrust.host.errors import NoSpace
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.lock import Asking
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.runner import Runner
from nqrust.installer.operations import gate, standing_undo
from nqrust.installer.operations.site import ChangingSite, Site
from nqrust.installer.request import PhasePreview, PlanPreview, Request, RunOptions, StepPreview, Summary
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.registry import VERBS

PREVIEW = PlanPreview("install", (PhasePreview("config", "Config", (StepPreview("f", "file", "write /etc/a"),)),))


@dataclass
class Bench:
    """`locked`: whether the installer's lock is held. `asking`: whether its file says that its holder waits for an answer."""

    host: FakeHost
    store: MemoryJournalStore
    locked: bool = False
    asking: bool = False
    written: list[bool] = field(default_factory=list)  # for each time that the script was written: was the lock held

    def site(self) -> ChangingSite:
        return ChangingSite(self.host, Journal(self.store, self.host.now), Originals(self.host, paths.ORIGINALS_DIR))

    def install(self, site: Site, *files: str) -> Summary:
        plan = Plan((PhasePlan("config", "Config", tuple(File(path, "x\n") for path in files)),))
        Runner(VERBS, site.host, site.journal, site.originals, NullReporter(), keep_on_failure=True).run(plan, "install", "1", {})
        return Summary("ok", 0)

    def carry_out(self, change: Callable[[ChangingSite], Summary], **options: object) -> Summary:
        asked = Request(Settings(), RunOptions(**options))  # type: ignore[arg-type]
        return gate.carry_out(asked, "install", NullReporter(), lambda site: gate.Prospect(lambda: PREVIEW, change))

    @property
    def script(self) -> str:
        return self.host.read_text(paths.UNDO_SCRIPT)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(FakeHost.debian12(), MemoryJournalStore())
    made.host.on("dpkg-query", prefix=True, answer="")
    made.host.put_directory(paths.STATE_DIR, mode=0o700)

    @contextmanager
    def asking() -> Iterator[None]:
        made.asking = True
        yield
        made.asking = False

    @contextmanager
    def exclusive(*_: object) -> Iterator[Asking]:
        assert not made.locked
        made.locked = True
        yield asking
        made.locked = False

    keep = standing_undo.keep_current

    def keep_current(site: ChangingSite, done: Summary) -> Summary:
        made.written.append(made.locked)
        return keep(site, done)

    monkeypatch.setattr(gate, "exclusive", exclusive)
    monkeypatch.setattr(gate, "open_to_change", lambda events: made.site())
    monkeypatch.setattr(gate, "open_site", lambda events: made.site())
    monkeypatch.setattr(standing_undo, "keep_current", keep_current)
    return made


def test_undo_script_is_updated_before_another_run_may_begin(bench: Bench) -> None:
    """Outside the lock, the receipt could be the one from before that run."""
    assert bench.carry_out(lambda site: bench.install(site, "/etc/a")).outcome == "ok"
    assert bench.written == [True] and "remove_file /etc/a" in bench.script
    assert bench.carry_out(lambda site: bench.install(site, "/etc/a", "/etc/b")).outcome == "ok"
    assert bench.written == [True, True] and "remove_file /etc/b" in bench.script
    stat = bench.host.stat(paths.UNDO_SCRIPT)
    assert stat is not None and stat.mode == 0o700


def test_failed_run_writes_an_undo_script_for_its_leftovers(bench: Bench) -> None:
    def fails(site: ChangingSite) -> Summary:
        bench.install(site, "/etc/a")
        raise StepFailed("NQR-CFG-101", "It failed.", "Mend it.")

    done = bench.carry_out(fails)
    assert done.failure is not None and done.failure.code == "NQR-CFG-101"
    assert bench.written == [True] and "remove_file /etc/a" in bench.script


@pytest.mark.parametrize("options", [{"dry_run": True}, {"confirm": lambda preview: False}], ids=["dry run", "declined"])
def test_a_run_that_changes_nothing_writes_no_script(bench: Bench, options: dict[str, object]) -> None:
    bench.install(bench.site(), "/etc/a")
    bench.host.mutations.clear()
    done = bench.carry_out(lambda site: pytest.fail("it was changed"), **options)
    assert done.changed == 0 and bench.written == [] and bench.host.mutations == []


def test_lock_says_that_a_run_asks_only_until_the_answer(bench: Bench) -> None:
    """Meanwhile the agent restores firewall rules, and it may not do so during the change."""
    seen: list[tuple[str, bool]] = []

    def confirm(preview: PlanPreview) -> bool:
        seen.append(("question", bench.asking and bench.locked))
        return True

    def change(site: ChangingSite) -> Summary:
        seen.append(("change", bench.asking))
        return Summary("ok", 0)

    assert bench.carry_out(change, confirm=confirm).outcome == "ok"
    assert seen == [("question", True), ("change", False)]


def test_a_script_that_is_current_is_left_alone(bench: Bench) -> None:
    bench.carry_out(lambda site: bench.install(site, "/etc/a"))
    bench.host.mutations.clear()
    assert bench.carry_out(lambda site: Summary("ok", 0)).notes == () and bench.host.mutations == []


def test_unwritable_undo_script_is_reported_and_fails_nothing(bench: Bench) -> None:
    def full(site: ChangingSite) -> Summary:
        bench.install(site, "/etc/a")
        bench.host.fail_at(1, NoSpace(paths.UNDO_SCRIPT, "No space left on device"))
        return Summary("ok", 0, changed=1)

    done = bench.carry_out(full)
    assert (done.outcome, done.exit_code, done.changed) == ("ok", 0, 1)
    (note,) = done.notes
    assert note.startswith(f"{paths.UNDO_SCRIPT} is not current: ") and "No space" in note
    assert bench.carry_out(lambda site: Summary("ok", 0)).notes == () and "remove_file /etc/a" in bench.script
