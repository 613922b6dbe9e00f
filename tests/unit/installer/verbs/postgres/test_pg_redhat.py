"""The one cluster of Red Hat's packages: initdb makes it, a kill can interrupt it anywhere, nqr removes it whole, and never
another one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore
from tests.unit.installer.verbs.postgres.scripted_psql import psql

from nqrust.contract.paths import STATE_DIR
from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.plan import PhasePlan, Plan
from nqrust.installer.engine.receipt import Receipt
from nqrust.installer.engine.rollback import RollbackResult, roll_back
from nqrust.installer.engine.runner import Runner, RunResult
from nqrust.installer.engine.step import Conflict, Needed, Satisfied
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.supervisor.systemd import SYSTEMD
from nqrust.installer.verbs.postgres.cluster import REDHAT_DATA, ClusterChoice, PostgresClusterRunning
from nqrust.installer.verbs.registry import VERBS

STEP = PostgresClusterRunning(ClusterChoice(), SYSTEMD, "redhat")
LOG = "/var/lib/pgsql/initdb_postgresql.log"


class Killed(BaseException):
    """SIGKILL."""


@pytest.fixture
def host() -> FakeHost:
    """PostgreSQL's packages without a cluster: their folder exists and is empty."""
    host = FakeHost.debian12()
    host.add_user("postgres", 26)
    for path, mode in (("/var/lib/pgsql", 0o700), (REDHAT_DATA, 0o755)):
        host.put_directory(path, mode=mode, owner="postgres", group="postgres")
    host.put_directory(STATE_DIR)
    host.put("/proc/700/comm", "postgres\n")
    host.install("postgres")
    host.install("systemctl")
    host.on("postgres", "--version", answer="postgres (PostgreSQL) 13.14\n")
    host.on("postgresql-setup", "--initdb", changes=True, answer=initdb)
    host.memory["unit"] = {"enabled": False, "active": False}
    host.on("systemctl", prefix=True, answer=show)
    for verb in ("start", "enable", "stop", "disable"):
        host.on("systemctl", verb, prefix=True, changes=True, answer=unit)
    psql(host, lambda sql: "1")
    return host


def initdb(host: FakeHost, cmd: Command) -> None:
    if host.exists(f"{REDHAT_DATA}/PG_VERSION") or (host.exists(REDHAT_DATA) and host.listdir(REDHAT_DATA)):
        raise CommandFailed(cmd.argv, 1, "Data directory is not empty!")
    host.put(LOG, "a log\n", mode=0o600, owner="postgres", group="postgres")
    host.put_directory(REDHAT_DATA, mode=0o700, owner="postgres", group="postgres")
    host.tree.lookup(REDHAT_DATA).mode = 0o700
    host.put(f"{REDHAT_DATA}/PG_VERSION", "13\n")
    host.put(f"{REDHAT_DATA}/base/1/1247", "rows")


def half(host: FakeHost, *files: str) -> None:
    host.put(LOG, "half a log\n", mode=0o600, owner="postgres", group="postgres")
    for name in files:
        host.put(f"{REDHAT_DATA}/{name}", "13\n")


def show(host: FakeHost, cmd: Command) -> str:
    state = host.memory["unit"]
    return (
        f"LoadState=loaded\nActiveState={'active' if state['active'] else 'inactive'}\n"
        f"UnitFileState={'enabled' if state['enabled'] else 'disabled'}\n"
    )


def unit(host: FakeHost, cmd: Command) -> None:
    verb = cmd.argv[1]
    host.memory["unit"]["active" if verb in ("start", "stop") else "enabled"] = verb in ("start", "enable")
    if verb == "start":
        assert host.read_text(f"{REDHAT_DATA}/base/1/1247") == "rows", "half a cluster does not start"
        pid = f"700\n{REDHAT_DATA}\n1700000000\n5432\n/var/run/postgresql\nlocalhost\n"
        host.put(f"{REDHAT_DATA}/postmaster.pid", pid)
        host.put(f"{REDHAT_DATA}/postmaster.opts", "")
    elif verb == "stop":
        host.remove(f"{REDHAT_DATA}/postmaster.pid")


class Bench:
    def __init__(self, host: FakeHost) -> None:
        self.host, self.store, self.before = host, MemoryJournalStore(), self.state(host)

    @staticmethod
    def state(host: FakeHost) -> object:
        return host.state(ignore=(f"{STATE_DIR}/originals",))

    def journal(self) -> Journal:
        return Journal(self.store, self.host.now)

    def install(self) -> RunResult:
        runner = Runner(VERBS, self.host, self.journal(), Originals(self.host, f"{STATE_DIR}/originals"), NullReporter())
        return runner.run(Plan((PhasePlan("database", "Database", (STEP,)),)), "install", "1", {})

    def uninstall(self) -> RollbackResult:
        journal = self.journal()
        context = UndoContext(self.host, Originals(self.host, f"{STATE_DIR}/originals"))
        return roll_back(VERBS, context, journal, "back", Receipt.of(journal).entries, NullReporter())

    def is_as_before(self) -> bool:
        return self.state(self.host) == self.before


def test_cluster_is_created_and_removed_only_with_the_database(host: FakeHost) -> None:
    bench = Bench(host)
    assert bench.install().failure is None and isinstance(STEP.inspect(host), Satisfied)
    (entry,) = Receipt.of(bench.journal()).entries
    assert entry.retain is Retain.database
    assert not bench.uninstall().failed and bench.is_as_before()


def test_created_data_folder_is_removed(host: FakeHost) -> None:
    host.rmdir(REDHAT_DATA)
    bench = Bench(host)
    assert bench.install().failure is None
    assert not bench.uninstall().failed and bench.is_as_before()


@pytest.mark.parametrize("folder", ["was there", "was not there"])
@pytest.mark.parametrize(
    "theirs", ["base/16390/1259", "base/5/16384_fsm", "pg_tblspc/16385"], ids=["a database", "a table", "a tablespace"]
)
def test_cluster_with_foreign_data_stays_and_keeps_running(host: FakeHost, folder: str, theirs: str) -> None:
    """`nqr uninstall --drop-database` removed it, with everything that administrators had put there."""
    if folder == "was not there":
        host.rmdir(REDHAT_DATA)
    bench = Bench(host)
    assert bench.install().failure is None
    host.put(f"{REDHAT_DATA}/base/5/1259", "")
    host.put(f"{REDHAT_DATA}/{theirs}", "rows of others")
    found = bench.uninstall()
    assert not found.failed and found.undone == 0
    assert any(f"PostgreSQL stays: {REDHAT_DATA} holds data that nqr did not create" in why for why in found.waits)
    assert host.read_text(f"{REDHAT_DATA}/{theirs}") == "rows of others" and host.read_text(f"{REDHAT_DATA}/base/1/1247")
    assert host.memory["unit"] == {"enabled": True, "active": True}
    assert host.tree.lookup(REDHAT_DATA).mode == 0o700
    host.remove(f"{REDHAT_DATA}/{theirs}")
    if theirs.startswith("base/16390"):
        host.rmdir(f"{REDHAT_DATA}/base/16390")
    assert not bench.uninstall().waits and bench.is_as_before()


def test_undo_script_checks_for_foreign_data_before_it_stops_the_service(host: FakeHost) -> None:
    bench = Bench(host)
    assert bench.install().failure is None
    (entry,) = Receipt.of(bench.journal()).entries
    context = UndoContext(host, Originals(host, f"{STATE_DIR}/originals"))
    lines = [line for undo in reversed(entry.undo) for line in VERBS.script(context, undo)]
    assert lines[0] == f"moved_cluster_is_used {REDHAT_DATA} || stop_unit postgresql.service 0 0"
    assert f"remove_contents {REDHAT_DATA}" in lines and f"restore_mode {REDHAT_DATA} 0755 postgres postgres" in lines


@pytest.mark.parametrize("left", [("PG_VERSION", "base/1/1247"), ("global/x",)], ids=["looks like one", "does not"])
def test_an_initdb_that_fails_leaves_nothing_and_the_next_one_succeeds(host: FakeHost, left: tuple[str, ...]) -> None:
    def fail(host: FakeHost, cmd: Command) -> None:
        half(host, *left)
        raise CommandFailed(cmd.argv, 1, "Initializing database failed")

    bench = Bench(host)
    host.on("postgresql-setup", "--initdb", changes=True, answer=fail)
    assert bench.install().outcome == "rolled_back" and bench.is_as_before()
    host.on("postgresql-setup", "--initdb", changes=True, answer=initdb)
    assert bench.install().failure is None


@pytest.mark.parametrize("resumed", [True, False])
@pytest.mark.parametrize("left", [("PG_VERSION", "base/1/1247"), ("global/x",)], ids=["looks like one", "does not"])
def test_killed_initdb_is_resumed_or_undone(host: FakeHost, left: tuple[str, ...], resumed: bool) -> None:
    def kill(host: FakeHost, cmd: Command) -> None:
        half(host, *left)
        raise Killed

    bench = Bench(host)
    host.on("postgresql-setup", "--initdb", changes=True, answer=kill)
    with pytest.raises(Killed):
        bench.install()
    host.on("postgresql-setup", "--initdb", changes=True, answer=initdb)
    if resumed:
        assert bench.install().failure is None and host.read_text(f"{REDHAT_DATA}/base/1/1247") == "rows"
    assert not bench.uninstall().failed and bench.is_as_before()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("action", ["install", "uninstall"])
def test_install_and_uninstall_survive_a_kill_at_any_change(host: FakeHost, action: str, after: bool) -> None:
    for number in range(1, 20):
        bench = Bench(host.copy())
        if action == "uninstall":
            assert bench.install().failure is None
        act: Callable[[], RunResult | RollbackResult] = getattr(bench, action)
        bench.host.fail_at(number, Killed(), after=after)
        try:
            act()
        except Killed:
            again = act()
            assert not getattr(again, "failed", getattr(again, "failure", None))
        else:
            assert number > 5, "every change had its kill"
            return
        assert not bench.uninstall().failed and bench.is_as_before(), number
    raise AssertionError("there was no end")


@pytest.mark.parametrize("version", ["10", None])
def test_existing_files_in_the_data_folder_stay(host: FakeHost, version: str | None) -> None:
    host.put(f"{REDHAT_DATA}/{'PG_VERSION' if version else 'notes'}", f"{version}\n")
    bench = Bench(host)
    found = STEP.inspect(host)
    assert isinstance(found, Conflict) and found.code == "NQR-DB-109"
    assert bench.install().outcome == "refused" and bench.is_as_before()


def test_a_cluster_in_which_a_server_has_run_is_not_taken_for_a_half_made_one(host: FakeHost) -> None:
    host.put(f"{STATE_DIR}/initdb", "")
    initdb(host, Command(("postgresql-setup",)))
    host.put(f"{REDHAT_DATA}/postmaster.opts", "")
    host.put(f"{REDHAT_DATA}/base/theirs", "rows")
    assert Bench(host).install().failure is None
    assert host.read_text(f"{REDHAT_DATA}/base/theirs") == "rows"


def test_an_old_server_is_refused_before_anything_is_made(host: FakeHost) -> None:
    host.on("postgres", "--version", answer="postgres (PostgreSQL) 10.23\n")
    found = STEP.inspect(host)
    assert isinstance(found, Conflict) and found.code == "NQR-DB-101" and "dnf module enable postgresql:15" in found.cure
    host.uninstall("postgres")
    assert isinstance(STEP.inspect(host), Needed), "no package yet: it cannot be told"
