"""With a real server: other roles get back what they could do in a database that nqr adopted."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.host import FakeHost
from tests.live.installer.verbs.postgres.test_hostile_roles import _Fixed, as_role, cluster, host

from nqrust.host.facts import postgres as facts
from nqrust.host.facts.model import PostgresCluster
from nqrust.host.local import LocalHost
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.step import Satisfied
from nqrust.installer.engine.undo_record import Retain, Undo
from nqrust.installer.engine.verb import Outcome, Reverted, UndoContext
from nqrust.installer.fingerprint import postgres as fingerprint
from nqrust.installer.verbs.postgres import undo as postgres
from nqrust.installer.verbs.postgres.database import Database
from nqrust.installer.verbs.postgres.sql import as_owner
from nqrust.installer.verbs.registry import revert
from nqrust.installer.verbs.script import whole as script
from nqrust.installer.verbs.script.prelude import PRELUDE

__all__ = ["cluster", "host"]
_HELD = (
    "SELECT has_database_privilege('public', 'nexus', 'CONNECT'), has_database_privilege('public', 'nexus', 'TEMPORARY'),"
    " has_schema_privilege('public', 'public', 'CREATE');"
)


@pytest.fixture(autouse=True)
def found(host: LocalHost, cluster: PostgresCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "probe", lambda host: [cluster])


def adopted(host: LocalHost, cluster: PostgresCluster, *, own: bool = False, closed: bool = True) -> list[Undo]:
    """Let nqr adopt the database and return its records."""
    step = Database(_Fixed(one=cluster), "nexus", "nexus", closed=closed, own=own)
    records = list(step.prepare(host).undo)
    step.apply(host)
    assert isinstance(step.inspect(host), Satisfied)
    return records


def reverted(host: LocalHost, undo: Undo) -> Outcome:
    return revert(UndoContext(host, Originals(host, "/nowhere")), undo)


@pytest.mark.parametrize("held", ["t|t|t", "t|t|f", "f|t|f", "t|f|t"])
def test_other_roles_get_back_what_they_had(held: str, host: LocalHost, cluster: PostgresCluster) -> None:
    for answer, right in zip(held.split("|"), ("CONNECT", "TEMPORARY", "CREATE"), strict=True):
        if answer == "f":
            place = "SCHEMA public" if right == "CREATE" else "DATABASE nexus"
            as_owner(host, cluster, f"REVOKE {right} ON {place} FROM PUBLIC;", "nexus")
    (undo,) = adopted(host, cluster)
    assert as_owner(host, cluster, _HELD, "nexus") == "f|f|f" and undo.retain is Retain.nothing
    assert reverted(host, undo) == reverted(host, undo) == Reverted()
    assert as_owner(host, cluster, _HELD, "nexus") == held


def test_a_database_that_was_closed_stays_so(host: LocalHost, cluster: PostgresCluster) -> None:
    adopted(host, cluster)
    assert adopted(host, cluster) == []


def test_a_database_that_was_left_open_is_not_opened_twice(host: LocalHost, cluster: PostgresCluster) -> None:
    (undo,) = adopted(host, cluster, closed=False)
    assert undo.args["rights"] == ["CREATE"]


def test_a_database_of_an_earlier_version_stays_closed_while_it_is_kept(host: LocalHost, cluster: PostgresCluster) -> None:
    """A rollback of the upgrade opens it again, and `--drop-database` drops it."""
    (undo,) = adopted(host, cluster, own=True)
    assert undo.retain is Retain.database


def test_the_fingerprint_is_that_of_before(host: LocalHost, cluster: PostgresCluster) -> None:
    before = fingerprint.take(host, [])
    (undo,) = adopted(host, cluster)
    assert fingerprint.take(host, []) != before, "the test can see a difference"
    reverted(host, undo)
    assert fingerprint.take(host, []) == before


def test_a_database_that_somebody_dropped_since_needs_nothing(host: LocalHost, cluster: PostgresCluster) -> None:
    (undo,) = adopted(host, cluster)
    as_owner(host, cluster, "DROP DATABASE nexus;")
    outcome = reverted(host, undo)
    assert isinstance(outcome, Reverted) and outcome.note.startswith("the database is gone already")
    assert run_script(host, undo) == "failed: 0\n"


def run_script(host: LocalHost, undo: Undo) -> str:
    (call,) = script.lines_of(UndoContext(host, Originals(FakeHost(), "/var/lib/o")), undo)
    text = PRELUDE.partition("cd / || exit 1\n")[2] + f'{call}\necho "failed: $failed$missed"\n'
    return subprocess.run(["sh", "-c", text], check=True, stdout=subprocess.PIPE, text=True, cwd="/", timeout=60).stdout


def test_the_undo_script_does_the_same(host: LocalHost, cluster: PostgresCluster) -> None:
    (undo,) = adopted(host, cluster)
    assert run_script(host, undo) == "failed: 0\n"
    assert as_owner(host, cluster, _HELD, "nexus") == "t|t|t"


@pytest.mark.parametrize("way", ["python", "shell"])
def test_the_owner_of_the_database_does_not_hold_up_an_uninstall(way: str, host: LocalHost, cluster: PostgresCluster) -> None:
    (undo,) = adopted(host, cluster)
    for setting in ("role = nexus", "statement_timeout = 1", "lock_timeout = 1", "default_transaction_read_only = on"):
        as_role(host, cluster, "nexus", f"ALTER DATABASE nexus SET {setting};")
    assert (reverted(host, undo) if way == "python" else run_script(host, undo)) in (Reverted(), "failed: 0\n")
    as_role(host, cluster, "postgres", "ALTER DATABASE nexus RESET ALL;")
    assert as_owner(host, cluster, _HELD, "nexus") == "t|t|t"
    as_role(host, cluster, "postgres", "ALTER DATABASE nexus ALLOW_CONNECTIONS false;")
    outcome = reverted(host, undo) if way == "python" else run_script(host, undo)
    assert outcome == "failed: 0\n" or isinstance(outcome, Reverted)


@pytest.mark.parametrize("way", ["python", "shell"])
def test_an_owner_that_dropped_the_schema_does_not_hold_up_an_uninstall(
    way: str, host: LocalHost, cluster: PostgresCluster
) -> None:
    (undo,) = adopted(host, cluster)
    as_owner(host, cluster, "DROP SCHEMA public CASCADE;", "nexus")
    assert (reverted(host, undo) if way == "python" else run_script(host, undo)) in (Reverted(), "failed: 0\n")
    assert as_owner(host, cluster, _HELD.partition(", has_schema")[0] + ";", "nexus") == "t|t"


def test_a_server_that_is_stopped_needs_no_start(
    host: LocalHost, cluster: PostgresCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    binaries = Path("/usr/lib/postgresql") / str(cluster.version) / "bin"
    off = replace(cluster, online=False)
    monkeypatch.setattr(postgres, "server", lambda cluster: (str(binaries / "postgres"), ""))
    monkeypatch.setattr("nqrust.installer.verbs.postgres.shell.server", lambda cluster: (str(binaries / "postgres"), ""))

    def control(*words: str) -> None:
        argv = ["runuser", "-u", str(cluster.owner), "--", str(binaries / "pg_ctl"), "-D", cluster.data_dir, "-w", "-s", *words]
        subprocess.run(argv, check=True, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60)

    start = ("-l", f"{cluster.socket_dir}/log", "-o", f"-c listen_addresses= -k {cluster.socket_dir} -c fsync=off", "start")
    for way in (reverted, run_script):
        (undo,) = adopted(host, cluster)
        control("-m", "fast", "stop")
        monkeypatch.setattr(facts, "probe", lambda host: [off])
        try:
            assert way(host, undo) in (Reverted(), "failed: 0\n")
            missing = Undo(undo.verb, {**undo.args, "name": "missing"})
            assert way(host, missing) in (Reverted("the database is gone already, or takes no connections"), "failed: 0\n")
        finally:
            control(*start)
            monkeypatch.setattr(facts, "probe", lambda host: [cluster])
        assert as_owner(host, cluster, _HELD, "nexus") == "t|t|t"
