"""No rollback takes along what users have on the host: VMs, volumes, images, and what a database holds."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore

from nqrust.contract import paths
from nqrust.contract.paths import Layout
from nqrust.host.errors import CommandFailed, PathError
from nqrust.host.facts.model import PostgresCluster
from nqrust.installer import operations, secret_store
from nqrust.installer.engine import runner as runner_module
from nqrust.installer.engine.errors import Interrupted
from nqrust.installer.engine.events import Event, Notice, NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.receipt import Receipt
from nqrust.installer.engine.rollback import roll_back
from nqrust.installer.engine.runner import Runner, RunResult
from nqrust.installer.engine.step import Conflict, Inspection, Needed, Origin, Prepared, Step
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.operations import belongings, gate
from nqrust.installer.operations.belongings import Belongings
from nqrust.installer.operations.site import ChangingSite
from nqrust.installer.request import Request, RunOptions, Summary
from nqrust.installer.settings.model import Settings
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.undo import undo_directory, undo_file
from nqrust.installer.verbs.postgres.undo import undo_database
from nqrust.installer.verbs.registry import VERBS

LAYOUT = Layout()
NEEDED = Needed(("x",))
DUMP = "/opt/nqrust-microvm/backups/nqrust-before-2.dump"
DISK = f"{LAYOUT.vms_dir}/a/disk.ext4"
CLUSTER = PostgresCluster("15", "main", 5432, True, "postgres", data_dir="/var/lib/postgresql/15/main", socket_dir="/run/pg")
FOLDERS: tuple[Step, ...] = (
    File("/etc/app.conf", "one\n"),
    Directory(LAYOUT.data_dir, tree=True, retain=Retain.data),
    Directory(LAYOUT.vms_dir, tree=True, retain=Retain.data),
    Directory(LAYOUT.volumes_dir, tree=True, retain=Retain.data),
    Directory(LAYOUT.image_dir, tree=True, retain=Retain.data),
    Directory(f"{LAYOUT.image_dir}/tiny", tree=True, retain=Retain.data),
)


@dataclass(frozen=True)
class Made:
    """A step with records of its own. `found`: what its inspection says. `does`: to the host."""

    id: str
    undo: tuple[Any, ...] = ()
    found: Inspection = NEEDED
    does: Callable[[Any], object] = lambda host: None
    kind: str = "made"

    def describe(self) -> str:
        return self.id

    def inspect(self, host: Any) -> Inspection:
        return self.found

    def prepare(self, host: Any) -> Prepared:
        return Prepared(Origin.created, self.undo)

    def apply(self, host: Any) -> None:
        self.does(host)

    def verify(self, host: Any) -> None:
        pass


def fails(host: Any) -> None:
    raise CommandFailed(("x",), 1, "no")


def interrupted(host: Any) -> None:
    raise Interrupted("NQR-ENG-003", "It was interrupted.", "Run it again.")


class Bench:
    def __init__(self) -> None:
        self.host, self.store = FakeHost.debian12(), MemoryJournalStore()
        for folder in ("/srv", "/opt/nqrust-microvm", "/opt/nqrust-microvm/backups"):
            self.host.put_directory(folder)
        self.host.on("dpkg-query", prefix=True, answer="")
        self.said: list[str] = []

    def site(self) -> ChangingSite:
        return ChangingSite(self.host, Journal(self.store, self.host.now), Originals(self.host, paths.ORIGINALS_DIR))

    def run(self, *steps: Step, ends: bool = True, keep: bool = False) -> RunResult:
        """A run with the settings of an install. `ends`: otherwise it is killed after its last step."""
        site, bench = self.site(), self

        class Told(NullReporter):
            def emit(self, event: Event) -> None:
                if isinstance(event, Notice):
                    bench.said.append(event.text)

        runner = Runner(
            VERBS, self.host, site.journal, site.originals, Told(), keep_on_failure=keep, spared=Belongings(site).spared
        )
        settings = Settings().model_dump(mode="json")
        done = runner.run(Plan((PhasePlan("p", "P", steps),)), "install", "1", settings)
        if not ends:
            self.store.data = b"".join(line for line in self.store.data.splitlines(keepends=True) if b'"type":"end"' not in line)
        return done

    def vm(self, name: str = "web1") -> None:
        self.host.put_directory(f"{LAYOUT.vms_dir}/a")
        self.host.put(DISK, "disk")
        self.host.put(f"{LAYOUT.vms_dir}/a/vm.json", json.dumps({"name": name}))

    @property
    def receipt(self) -> Receipt:
        return self.site().receipt


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    monkeypatch.setattr(gate, "open_to_change", lambda events: made.site())
    monkeypatch.setattr(gate, "open_site", lambda events: made.site())
    monkeypatch.setattr(gate, "exclusive", lambda *_: contextlib.nullcontext(contextlib.nullcontext))
    monkeypatch.setattr(importlib.import_module("nqrust.installer.operations.remove"), "_preload", lambda: None)
    return made


def rollback(**options: Any) -> Summary:
    return operations.rollback(Request(Settings(), RunOptions(**options)), NullReporter())


def uninstall(**options: Any) -> Summary:
    return operations.uninstall(Request(Settings(), RunOptions(**options)), NullReporter())


@pytest.mark.parametrize("ends", [True, False])
def test_a_rollback_refuses_to_remove_vms(bench: Bench, ends: bool) -> None:
    bench.run(*FOLDERS, ends=ends)
    bench.vm()
    before = bench.store.data
    for options in ({}, {"dry_run": True}):
        done = rollback(**options)
        assert done.failure is not None and done.failure.code == "NQR-USE-030" and done.exit_code == 2
        assert "1 VM in /srv/fc/vms" in done.failure.what and "nqr uninstall" in done.failure.cure
    assert bench.host.exists(DISK) and bench.host.exists("/etc/app.conf") and bench.store.data == before


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (f"{LAYOUT.volumes_dir}/data1.raw", "1 volume in /srv/fc/volumes"),
        (f"{LAYOUT.image_dir}/debian-12/manifest.json", "1 image in /srv/images"),
        (f"{LAYOUT.vms_dir}/b/disk.ext4", "1 VM in /srv/fc/vms"),
    ],
)
def test_a_rollback_refuses_to_remove_what_users_made(bench: Bench, path: str, told: str) -> None:
    """A folder of a VM whose record cannot be read may have a disk."""
    bench.run(*FOLDERS)
    if not bench.host.exists(path.rpartition("/")[0]):
        bench.host.put_directory(path.rpartition("/")[0])
    bench.host.put(path, "x")
    done = rollback()
    assert done.failure is not None and told in done.failure.what and bench.host.exists(path)


def test_a_folder_that_cannot_be_read_may_hold_something(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run(*FOLDERS)
    listed = bench.host.listdir

    def broken(path: str) -> list[str]:
        if path == LAYOUT.vms_dir:
            raise PathError(path, "Input/output error", 5)
        return list(listed(path))

    monkeypatch.setattr(bench.host, "listdir", broken)
    done = rollback()
    assert done.failure is not None and f"what {LAYOUT.vms_dir} holds, which cannot be read" in done.failure.what


@pytest.mark.parametrize("ends", [True, False])
def test_a_rollback_of_a_platform_that_nobody_used_leaves_nothing(bench: Bench, ends: bool) -> None:
    """What nqr puts there is nobody's: its image, the VM of its proof, and a folder that it had just begun."""
    bench.run(*FOLDERS, ends=ends)
    bench.vm("nqr-canary-123-456")
    bench.host.put_directory(f"{LAYOUT.vms_dir}/c")
    bench.host.put(f"{LAYOUT.image_dir}/tiny/manifest.json", "{}")
    done = rollback()
    assert done.outcome == "ok", done.failure
    assert not bench.host.exists(LAYOUT.data_dir) and not bench.host.exists(LAYOUT.image_dir) and not bench.receipt.entries


def test_a_rollback_after_an_uninstall_has_nothing_to_undo(bench: Bench) -> None:
    bench.run(*FOLDERS)
    bench.vm()
    assert uninstall().outcome == "ok" and bench.host.exists(DISK)
    done = rollback()
    assert done.notes[0] == "There is nothing to roll back." and bench.host.exists(DISK)
    assert uninstall(purge_data=True).outcome == "ok" and not bench.host.exists(LAYOUT.data_dir)


def test_a_second_rollback_does_not_undo_the_install_before(bench: Bench) -> None:
    """A script may run it again, and the first one undid the upgrade."""
    bench.run(*FOLDERS)
    bench.vm()
    bench.run(*FOLDERS[1:], File("/etc/app.conf", "two\n"))
    assert rollback().outcome == "ok" and bench.host.read_text("/etc/app.conf") == "one\n"
    again = rollback()
    assert again.failure is not None and again.failure.code == "NQR-USE-030" and bench.host.exists(DISK)


@pytest.mark.parametrize("does", [fails, interrupted])
@pytest.mark.parametrize("first", ["killed", "kept"])
def test_a_failure_takes_back_this_run_and_nothing_that_users_made_before(
    bench: Bench, does: Callable[[Any], object], first: str
) -> None:
    """The first install never ended, but it works, and people have used it since."""
    if first == "killed":
        bench.run(*FOLDERS, ends=False)
    else:
        assert bench.run(*FOLDERS, Made("x", does=fails), keep=True).outcome == "failed"
    bench.vm()
    done = bench.run(*FOLDERS[1:], File("/etc/app.conf", "two\n"), File("/etc/new", "x\n"), Made("x", does=does))
    assert done.resumed and done.outcome == "rolled_back"
    assert bench.host.exists(DISK) and bench.host.read_text("/etc/app.conf") == "one\n" and not bench.host.exists("/etc/new")
    assert any("Earlier runs stay, because users have 1 VM in /srv/fc/vms." in text for text in bench.said)


def test_a_conflict_of_a_resumed_run_leaves_the_vms(bench: Bench) -> None:
    bench.run(*FOLDERS, ends=False)
    bench.vm()
    held = Made("port", found=Conflict("NQR-PRE-040", "Port 1 is held.", "Free it."))
    assert bench.run(*FOLDERS, held).outcome == "rolled_back" and bench.host.exists(DISK)


def test_a_failure_takes_back_everything_while_nobody_has_used_it(bench: Bench) -> None:
    bench.run(*FOLDERS, ends=False)
    assert bench.run(*FOLDERS, Made("x", does=fails)).outcome == "rolled_back"
    assert not bench.host.exists(LAYOUT.data_dir) and not bench.host.exists("/etc/app.conf") and not bench.receipt.entries


def test_a_vm_of_the_very_run_that_fails_stays(bench: Bench) -> None:
    """The services serve before the proofs have passed."""
    assert bench.run(*FOLDERS, Made("x", does=lambda host: (bench.vm(), fails(host)))).outcome == "rolled_back"
    assert bench.host.exists(DISK) and not bench.host.exists("/etc/app.conf")
    assert uninstall(purge_data=True).outcome == "ok" and not bench.host.exists(LAYOUT.data_dir) and not bench.receipt.entries


def test_a_failed_upgrade_keeps_the_copy_of_the_database(bench: Bench) -> None:
    bench.run(*FOLDERS)
    copied = Made(
        "migrate", (undo_file("/etc/marker", ours_sha256=None), undo_file(DUMP, ours_sha256=None, retain=Retain.database)),
        does=lambda host: (host.put(DUMP, "dump"), host.put("/etc/marker", "2")),
    )  # fmt: skip
    assert bench.run(*FOLDERS, copied, Made("x", does=fails)).outcome == "rolled_back"
    assert bench.host.exists(DUMP) and not bench.host.exists("/etc/marker")
    assert uninstall(purge_data=True).outcome == "ok" and bench.host.exists(DUMP)
    assert uninstall(purge_data=True, drop_database=True).outcome == "ok" and not bench.host.exists(DUMP)


def test_a_rollback_keeps_the_copy_of_the_database_and_says_so(bench: Bench) -> None:
    bench.run(*FOLDERS)
    copied = Made(
        "migrate", (undo_file(DUMP, ours_sha256=None, retain=Retain.database),), does=lambda host: host.put(DUMP, "dump")
    )
    bench.run(*FOLDERS, copied)
    told = f"{DUMP}, the copy of the database from before its migration, stays"
    preview = rollback(dry_run=True).preview
    assert preview is not None and [stay.why for stay in preview.stays] == [told] and not preview.changes
    done = rollback()
    assert done.outcome == "ok" and f"{told}." in done.notes and bench.host.exists(DUMP)


# --- the database


def with_database(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    asked: Callable[[str], str],
    *,
    served: bool = True,
    more: tuple[Step, ...] = (),
) -> None:
    bench.host.put(paths.SECRETS_JSON, secret_store.render(secret_store.generate()).reveal(), mode=0o600)
    monkeypatch.setattr(belongings, "find", lambda host, recorded: CLUSTER)

    def answer(host: Any, cmd: Any) -> str:
        assert cmd.user is None and cmd.env["PGUSER"] == "nexus", "never as the owner of the cluster"
        return asked(cmd.input.decode())

    bench.host.on("psql", prefix=True, answer=answer)
    record = undo_database({"user": "postgres", "port": 5432, "data_dir": CLUSTER.data_dir}, "nexus")
    services = (Made("service:nqrust-manager", kind="service"),) if served else ()
    bench.run(File("/etc/app.conf", "one\n"), Made("database", (record,)), *services, *more)


def tables(**rows: int) -> Callable[[str], str]:
    def asked(sql: str) -> str:
        if "pg_tables" in sql:
            return "\n".join([*rows, "alembic_version"])
        assert "NOT LIKE 'nqr-canary-%'" in sql or not {"vms", "vm"} & rows.keys()
        return "\n".join(f"{table}|{number}" for table, number in rows.items())

    return asked


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({"vms": 3, "hosts": 1, "users": 1}, "3 VMs in the database nexus"),
        ({"vms": 0, "templates": 1, "volumes": 2}, "1 template, 2 volumes in the database nexus"),
        ({"hosts": 2, "users": 2}, "2 hosts, 2 users in the database nexus"),
    ],
)
def test_a_rollback_refuses_to_drop_what_users_know(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, rows: dict[str, int], told: str
) -> None:
    with_database(bench, monkeypatch, tables(**rows))
    done = rollback()
    assert done.failure is not None and told in done.failure.what and bench.host.exists("/etc/app.conf")


@pytest.mark.parametrize("rows", [{}, {"vms": 0, "hosts": 1, "users": 1, "volumes": 0, "templates": 0}])
def test_a_rollback_drops_a_database_that_holds_what_nqr_wrote(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, rows: dict[str, int]
) -> None:
    with_database(bench, monkeypatch, tables(**rows))
    assert rollback().outcome == "ok" and not bench.host.exists("/etc/app.conf")


def test_a_database_that_does_not_answer_may_hold_something(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(sql: str) -> str:
        raise CommandFailed(("psql",), 2, "connection refused\n")

    with_database(bench, monkeypatch, refused)
    done = rollback()
    assert done.failure is not None and "which cannot be asked now" in done.failure.what


def test_a_database_that_nothing_has_served_holds_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with_database(bench, monkeypatch, lambda sql: pytest.fail("asked"), served=False)
    assert rollback().outcome == "ok"


def test_a_database_whose_password_is_gone_may_hold_something(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with_database(bench, monkeypatch, tables())
    bench.host.remove(paths.SECRETS_JSON)
    done = rollback()
    assert done.failure is not None and "which cannot be asked now" in done.failure.what


def test_the_database_is_asked_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    with_database(bench, monkeypatch, lambda sql: asked.append(sql) or "")  # type: ignore[func-returns-value]
    spared = Belongings(bench.site()).spared
    for _ in range(3):
        assert spared.of_users(bench.receipt.entries) == ()
    assert len(asked) == 1


@pytest.mark.parametrize("ends", [True, False])
def test_a_rollback_after_an_uninstall_that_failed_drops_no_kept_database(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """The uninstall has undone the services, and something else could not be undone. Or it was killed there."""
    with_database(bench, monkeypatch, tables(vms=3))
    removed = bench.host.remove

    def held(path: str, **options: Any) -> Any:
        if path == "/etc/app.conf":
            raise PathError(path, "busy", 16)
        return removed(path, **options)

    monkeypatch.setattr(bench.host, "remove", held)
    assert uninstall().outcome == "partly_undone"
    monkeypatch.setattr(bench.host, "remove", removed)
    if not ends:
        lines = bench.store.data.splitlines(keepends=True)
        bench.store.data = b"".join(lines[:-1])
    for _ in range(3):
        rollback()
    assert [e.step_id for e in bench.receipt.entries] == ["database"] and bench.receipt.entries[0].chosen


def test_a_failed_run_drops_no_database_of_its_own_that_users_have_filled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its services serve before the proofs have passed. Secrets and packages that the database needs stay with it."""
    monkeypatch.setattr(belongings, "of_postgres", lambda host: frozenset({"postgresql"}))
    kept: list[frozenset[str]] = []
    real = roll_back

    def told(verbs: Any, context: Any, *rest: Any, **options: Any) -> Any:
        kept.append(context.needed_packages)
        return real(verbs, context, *rest, **options)

    monkeypatch.setattr(runner_module, "roll_back", told)
    secrets = undo_file(paths.SECRETS_JSON, ours_sha256=None, retain=Retain.database)
    with_database(bench, monkeypatch, tables(vms=1), more=(Made("secrets", (secrets,)), Made("x", does=fails)))
    assert not bench.host.exists("/etc/app.conf") and bench.host.exists(paths.SECRETS_JSON)
    assert [e.step_id for e in bench.receipt.entries] == ["database", "secrets"] and kept == [frozenset({"postgresql"})]


def test_a_release_in_upstreams_form_has_tables_and_files_of_other_names(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with_database(bench, monkeypatch, tables(vm=2, host=1, users=1))
    done = rollback()
    assert done.failure is not None and "2 VMs in the database nexus" in done.failure.what
    bench.host.put_directory(LAYOUT.image_dir)
    bench.host.put(f"{LAYOUT.image_dir}/theirs.ext4", "x")
    bench.run(*FOLDERS)
    record = undo_directory(LAYOUT.image_dir, tree=True, retain=Retain.data)
    assert Belongings(bench.site()).spared.users(record) == f"1 image in {LAYOUT.image_dir}"


def test_settings_that_this_nqr_cannot_read_lose_no_vm(bench: Bench) -> None:
    bench.run(*FOLDERS)
    bench.vm()
    bench.store.data = bench.store.data.replace(b'"settings":{', b'"settings":{"of_another_version":1,')
    done = rollback()
    assert done.failure is not None and f"what {LAYOUT.data_dir} holds" in done.failure.what and bench.host.exists(DISK)


def test_a_run_that_went_back_alone_leaves_the_other_interrupted(bench: Bench) -> None:
    bench.run(*FOLDERS, ends=False)
    bench.vm()
    bench.run(*FOLDERS, Made("x", does=fails))
    assert [run.verb for run in bench.receipt.unfinished] == ["install"]
    assert bench.run(*FOLDERS).resumed and not bench.receipt.unfinished
