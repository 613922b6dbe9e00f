"""Commands that only look change nothing. The report of a dry run of uninstall and rollback."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore
from tests.fakes.package_manager import few

import nqrust.installer
from nqrust.cli.install import gathering
from nqrust.contract import paths
from nqrust.installer import operations
from nqrust.installer.engine.errors import JournalError
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.journal_file import FileJournalStore, ReadOnlyJournalStore
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.runner import Runner
from nqrust.installer.engine.step import Origin, Prepared
from nqrust.installer.operations import gate
from nqrust.installer.operations.site import ChangingSite, Site
from nqrust.installer.release import bootstrap_record
from nqrust.installer.reporting.wording import plan_lines
from nqrust.installer.request import PlanPreview, Request, RunOptions, Summary
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.packages import undo as packages
from nqrust.installer.verbs.packages.registry import MANAGERS
from nqrust.installer.verbs.registry import VERBS

MODULES = [importlib.import_module(f"nqrust.installer.operations.{name}") for name in ("installing", "remove")]
SOURCES = Path(nqrust.installer.__file__).parent


class Closed(MemoryJournalStore):
    """Return the journal of a read-only site."""

    append = ReadOnlyJournalStore.append  # type: ignore[assignment]
    truncate = ReadOnlyJournalStore.truncate  # type: ignore[assignment]
    discard = ReadOnlyJournalStore.discard  # type: ignore[assignment]


@dataclass(frozen=True)
class Tool:
    """A replacement for a package transaction. With an empty `brings` it adopts something."""

    id: str
    brings: tuple[str, ...] = ()
    kind: str = "tool"

    def describe(self) -> str:
        return f"bring {', '.join(self.brings)}" if self.brings else "use the bridge br-lan"

    def inspect(self, host: Any) -> Any:
        from nqrust.installer.engine.step import Needed

        return Needed(())

    def prepare(self, host: Any) -> Prepared:
        if not self.brings:
            return Prepared(Origin.adopted, ())
        from nqrust.installer.verbs.packages.undo import undo_packages

        return Prepared(Origin.created, (undo_packages("few", ["base", "theirs"], [], []),))

    def apply(self, host: Any) -> None:
        pass

    def verify(self, host: Any) -> None:
        pass


@dataclass
class Installed:
    host: FakeHost
    data: MemoryJournalStore

    def preview(self, verb: str, **options: Any) -> PlanPreview:
        done = getattr(operations, verb)(Request(Settings(), RunOptions(dry_run=True, **options)), NullReporter())
        assert (done.outcome, done.exit_code, done.changed, done.farewell) == ("ok", 0, 0, "")
        return done.preview  # type: ignore[no-any-return]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Installed:
    """A host with a file, a data folder, packages and an adopted bridge. Another package needs `server` by now."""
    host, store = FakeHost.debian12(), MemoryJournalStore()
    host.put("/etc/edited", "theirs\n")
    steps = (
        Tool("packages", ("server", "library", "postgresql")),
        Tool("bridge"),
        Tool("answers", kind="healthy"),
        Directory("/srv/fc", retain=packages_retain("data")),
        File("/etc/ours", "ours\n"),
        File("/etc/edited", "ours\n"),
    )
    needs = {"theirs": {"server"}}
    remover = packages.Remover(
        lambda host: lambda name: name, lambda host: {"base", "theirs", "server", "library", "postgresql"}, lambda host: set(),
        lambda host, names: pytest.fail("would mend"), lambda host: needs, lambda host, going, configured: pytest.fail("purges"),
        lambda host, names: "", lambda host, names: frozenset(),
        foresee=lambda host, names: {*names, *(["theirs"] if "server" in names else [])},
    )  # fmt: skip
    monkeypatch.setitem(MANAGERS, "few", few(remover))
    host.on("dpkg-query", prefix=True, answer="postgresql\n")
    journal = Journal(store, host.now)
    Runner(VERBS, host, journal, Originals(host, paths.ORIGINALS_DIR), NullReporter()).run(
        Plan((PhasePlan("config", "Config", steps),)), "install", "1", {}
    )
    host.put("/etc/ours", "edited by the user\n")
    host.put(bootstrap_record.RECORD, '{"schema": 1, "manager": "apt", "packages": ["python3"], "cache": "/var/cache/x"}')
    host.put_directory(paths.STATE_DIR)

    def opened(events: Any) -> Site:
        return Site(host, Journal(Closed(store.data), host.now), Originals(host, paths.ORIGINALS_DIR))

    monkeypatch.setattr(gate, "open_site", opened)
    monkeypatch.setattr(gate, "exclusive", lambda *_: pytest.fail("a dry run takes no lock"))
    host.mutations.clear()
    return Installed(host, store)


def packages_retain(name: str) -> Any:
    from nqrust.installer.engine.undo_record import Retain

    return Retain(name)


def shown(preview: PlanPreview) -> list[str]:
    return [text for _, text in plan_lines(preview)]


def test_uninstall_dry_run_lists_removed_and_kept_things_with_reasons(bench: Installed) -> None:
    before, preview = bench.data.data, bench.preview("uninstall")
    (back,) = preview.phases
    assert [change.describe for change in back.changes] == [
        "undo: write /etc/edited", "undo: bring server, library, postgresql",
    ]  # fmt: skip
    assert back.changes[0].diff == ("put back /etc/edited as it was",)
    assert back.changes[1].diff == ("remove 2 packages: library, postgresql",)
    assert {(stay.describe, stay.why) for stay in preview.stays} == {
        ("create directory /srv/fc", "VM disks and images stay; --purge-data removes them"),
        ("use the bridge br-lan", "it was there before nqr"),
        ("write /etc/ours", "/etc/ours was changed since; your version is kept beside it (.nqr-kept)"),
        ("bring server, library, postgresql", "packages that others need now stay: server"),
        (f"the bootstrap's cache {paths.CACHE_DIR} and packages (python3)", "stays until an uninstall takes back the rest"),
    }
    text = shown(preview)
    assert "  - undo: write /etc/edited" in text and "  = use the bridge br-lan: it was there before nqr" in text
    assert bench.host.mutations == [] and bench.data.data == before


def test_purge_dry_run_lists_the_final_removal(bench: Installed) -> None:
    preview = bench.preview("uninstall", purge_data=True)
    assert [phase.name for phase in preview.phases] == ["uninstall", "end"]
    last = [change.describe for change in preview.phases[-1].changes]
    assert last[0] == f"remove {paths.STATE_DIR}"
    assert last[-2:] == [f"remove {paths.CACHE_DIR}, the cache of the bootstrap", "remove the packages of the bootstrap: python3"]
    bench.host.put("/srv/moved/bootstrap.json", '{"schema": 1, "manager": "apt", "packages": ["zlib"]}')
    bench.host.put(bootstrap_record.ELSEWHERE, "made /srv/moved\n")
    last = [change.describe for change in bench.preview("uninstall", purge_data=True).phases[-1].changes]
    assert last[-2:] == [
        "remove /srv/moved, the cache of the bootstrap",
        "remove the packages of the bootstrap: python3, zlib",
    ]
    bench.host.put_directory("/tmp", mode=0o1777)
    bench.host.put("/tmp/moved/bootstrap.json", '{"schema": 1, "manager": "apt", "packages": ["sudo"]}')
    bench.host.put(bootstrap_record.ELSEWHERE, "made /srv/moved\nmade /tmp/moved\n")
    end = bench.preview("uninstall", purge_data=True).phases[-1]
    assert [change.describe for change in end.changes] == last and "/tmp/moved stays, with the packages" in end.notes[0]
    bench.host.mutations.clear()
    kept = bench.preview("uninstall", purge_data=True, keep_packages=True)
    assert any("--keep-packages" in stay.why for stay in kept.stays)
    assert [phase.name for phase in kept.phases] == ["uninstall"], "what stays is still recorded, so the state stays"
    assert bench.host.mutations == []


def test_rollback_dry_run_lists_changes_of_the_last_run(bench: Installed) -> None:
    preview = bench.preview("rollback")
    assert [phase.name for phase in preview.phases] == ["rollback", "state"]
    assert preview.phases[0].changes[0].describe == "undo: write /etc/edited"
    assert any(change.describe == "undo: create directory /srv/fc" for change in preview.phases[0].changes)
    assert preview.stays[-1].why == "a rollback leaves it; `nqr uninstall` removes it"
    assert bench.host.mutations == []


def test_uninstall_dry_run_without_an_installation_lists_nothing(bench: Installed) -> None:
    bench.data.data = b""
    for verb, said in (("uninstall", "nqr has installed nothing on this host."), ("rollback", "There is nothing to roll back.")):
        preview = bench.preview(verb)
        assert said in preview.warnings
        assert next(change.id for phase in preview.phases for change in phase.changes) == paths.STATE_DIR
    assert bench.host.mutations == [] and bench.host.exists(paths.STATE_DIR)


def test_a_dry_run_gives_the_preview_and_never_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "open_site", lambda events: "read")
    monkeypatch.setattr(gate, "open_to_change", lambda events: pytest.fail("opened to change"))
    monkeypatch.setattr(gate, "exclusive", lambda *_: pytest.fail("took the lock"))
    asked = RunOptions(dry_run=True, confirm=lambda preview: pytest.fail("asked"))
    prospect = gate.Prospect(PlanPreview, lambda site: pytest.fail("changed"))
    done = gate.carry_out(Request(Settings(), asked), "x", NullReporter(), lambda site: prospect)
    assert done.preview == PlanPreview() and done.exit_code == 0


def test_a_journal_that_is_only_read_takes_no_record(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(FileJournalStore(str(path)), lambda: 1.0).append("run", "r", verb="install")
    path.write_bytes(path.read_bytes() + b'{"torn')
    before, journal = path.read_bytes(), Journal(ReadOnlyJournalStore(str(path)), lambda: 1.0)
    assert journal.torn and len(journal.records) == 1
    for attempt in (lambda: journal.append("end", "r", outcome="ok"), journal.discard):
        with pytest.raises(JournalError) as raised:
            attempt()
        assert raised.value.code == "NQR-ENG-018"
    assert path.read_bytes() == before, "not even a torn line is mended"


def test_a_look_at_the_recorded_settings_leaves_a_line_that_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nqr status` beside a run: what looks like a torn line is the run's, which still writes it."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(FileJournalStore(str(path)), lambda: 1.0)
    journal.append("run", "r", verb="install", settings=Settings().model_dump(mode="json"))
    begun = {"step": {"id": "x", "kind": "x", "phase": "p", "describe": "x"}, "origin": "created", "undo": []}
    line = journal.append("begin", "r", **begun).to_line()
    complete = path.read_bytes()
    monkeypatch.setattr(paths, "JOURNAL", str(path))
    monkeypatch.setattr(gathering.os, "geteuid", lambda: 0)
    assert gathering.recorded()["mode"] == "production"
    path.write_bytes(complete + line[:-9])
    assert gathering.recorded()["mode"] == "production" and path.read_bytes() == complete + line[:-9]


# --- the structure that keeps it so


def test_only_the_gate_opens_a_site_to_change() -> None:
    users = {p.stem for p in SOURCES.rglob("*.py") if "open_to_change" in p.read_text()}
    assert users == {"gate", "site"}
    makers = {p.stem for p in SOURCES.rglob("*.py") if "ChangingSite(" in p.read_text().replace("class ChangingSite(", "")}
    assert makers == {"site"}
    writers = {
        p.stem for p in SOURCES.parent.rglob("*.py") if re.search(r"\b(File|Crashing)JournalStore\((?!FileJ)", p.read_text())
    }
    assert writers == {"site"}
    lockers = {p.stem for p in (SOURCES / "operations").rglob("*.py") if "import exclusive" in p.read_text()}
    assert lockers == {"gate"}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_changing_operations_require_a_writable_site(module: Any) -> None:
    """A function that goes back, writes the journal or proves (which boots a VM) takes a ChangingSite, or a Runner made from
    one. mypy checks the callers."""
    changing = {"roll_back", "discard", "clear", "prove", "forget_state", "remove_tree", "_forget", "_begin"}
    for function in [node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.FunctionDef)]:
        inner = {n for f in ast.walk(function) if isinstance(f, ast.FunctionDef) and f is not function for n in ast.walk(f)}
        calls = [n.func for n in ast.walk(function) if isinstance(n, ast.Call) and n not in inner]
        names = {c.attr if isinstance(c, ast.Attribute) else getattr(c, "id", "") for c in calls}
        appends = any(isinstance(c, ast.Attribute) and ast.unparse(c).endswith("journal.append") for c in calls)
        if names & changing or appends:
            annotations = {ast.unparse(a.annotation) for a in function.args.args if a.annotation}
            assert annotations & {"ChangingSite"}, function.name


@pytest.mark.parametrize("verb", ["install", "phase_run", "plan", "rollback", "uninstall"])
def test_every_operation_goes_through_the_gate(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = Summary("ok", 0)
    for module in MODULES:
        monkeypatch.setattr(module, "carry_out", lambda *_: passed)
    more = ("config",) if verb == "phase_run" else ()
    assert getattr(operations, verb)(Request(Settings()), *more, NullReporter()) is passed
    assert ChangingSite is not Site
