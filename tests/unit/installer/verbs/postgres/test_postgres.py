"""PostgreSQL: cluster, role, database, login, remote check and migration. psql's answers are scripted."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.verbs.lifecycle import ORIGINALS
from tests.unit.installer.verbs.postgres.scripted_psql import LOGIN, PASSWORD, psql

from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.facts.model import ListeningPort, PostgresCluster
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.step import Conflict, Needed, Origin, Satisfied
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.engine.verb import Kept, Outcome, Partly, Reverted, UndoContext
from nqrust.installer.supervisor.supervisord import Supervisord
from nqrust.installer.supervisor.systemd import SYSTEMD
from nqrust.installer.verbs import registry as verbs
from nqrust.installer.verbs.postgres import scram
from nqrust.installer.verbs.postgres.cluster import ClusterChoice, PostgresClusterRunning, choose, cluster_service, expected_port
from nqrust.installer.verbs.postgres.database import Database
from nqrust.installer.verbs.postgres.login import TcpLogin
from nqrust.installer.verbs.postgres.role import Role
from nqrust.installer.verbs.postgres.rules import SignInRules
from nqrust.installer.verbs.postgres.sql import as_owner, identifier, literal, program, refusal_text

CHOICE = ClusterChoice()
ROLE = Role(CHOICE, "nexus", PASSWORD)


def cluster(version: int = 15, port: int = 5432, online: bool = True, name: str = "main") -> PostgresCluster:
    return PostgresCluster(version, name, port, online, "postgres", f"/var/lib/postgresql/{version}/{name}")


@pytest.fixture
def host() -> FakeHost:
    """A Debian with a running cluster 15/main."""
    host = FakeHost.debian12()
    host.add_user("postgres", 105)
    host.put(
        "/etc/postgresql/15/main/postgresql.conf",
        "data_directory = '/var/lib/postgresql/15/main'\nport = 5432\n",
    )
    host.put_directory("/var/lib/postgresql/15/main", mode=0o700, owner="postgres", group="postgres")
    start(host)
    return host


def start(host: FakeHost) -> None:
    pid = "700\n/var/lib/postgresql/15/main\n1700000000\n5432\n/var/run/postgresql\nlocalhost\n"
    host.put("/var/lib/postgresql/15/main/postmaster.pid", pid)
    host.put("/proc/700/comm", "postgres\n")


# --- SCRAM


def test_scram_verifier_matches_the_rfc_example() -> None:
    """RFC 7677 section 3: user, pencil."""
    salt = b"[m\x99h\x9d\x125\x8e\xec\xa0K\x14\x126\xfa\x81"
    assert scram.verifier("pencil", salt) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
        ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_stored_verifiers_are_recognised() -> None:
    assert scram.fits(scram.verifier("a"), "u", "a") and not scram.fits(scram.verifier("a"), "u", "b")
    assert scram.fits("md5" + hashlib.md5(b"au").hexdigest(), "u", "a")
    assert not scram.fits("", "u", "") and not scram.fits("plain", "u", "plain")


def test_saslprep() -> None:
    assert scram.prepared("Ⅸ") == "IX" and scram.prepared("a\u00adb") == "ab" and scram.prepared("a\u00a0b") == "a b"
    assert scram.prepared("\u0627\u0007") == "\u0627\u0007"  # prohibited: used as it stands


def test_quoting() -> None:
    assert identifier('a"b') == '"a""b"' and literal("a'b") == "'a''b'" and literal("a\\b") == "E'a\\\\b'"
    for quote in (identifier, literal):
        with pytest.raises(ValueError):
            quote("a\0b")


# --- the cluster


def test_the_right_cluster_is_chosen() -> None:
    both = [cluster(13, 5432), cluster(15, 5433)]
    assert choose(both, 13, None) == both[0] and choose(both, 14, None) == both[1] and choose(both, 13, 5433) == both[1]
    assert choose([cluster(15, 5432, online=False), cluster(13, 5433)], 13, None) == cluster(13, 5433)
    assert choose([], 13, 5432) is None


def test_port_is_foreseen_when_something_else_answers_on_5432() -> None:
    assert expected_port([], [], 5432) == 5432
    assert expected_port([], [ListeningPort("tcp", "0.0.0.0", 5432, 9, "docker-proxy")], 5432) == 5433
    assert expected_port([cluster(15, 5434)], [], 5432) == 5434


def test_running_cluster_is_left_as_it_is(host: FakeHost) -> None:
    assert isinstance(PostgresClusterRunning(CHOICE, SYSTEMD).inspect(host), Satisfied)


def test_stopped_cluster_is_started_by_systemd(host: FakeHost) -> None:
    host.remove("/var/lib/postgresql/15/main/postmaster.pid")
    psql(host, lambda sql: "1")
    show = "LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled-runtime\n"
    host.on("systemctl", "show", prefix=True, answer=show)
    host.on("systemctl", "start", "postgresql@15-main.service", answer=lambda h, c: start(h))
    step = PostgresClusterRunning(CHOICE, SYSTEMD)
    assert isinstance(step.inspect(host), Needed)
    assert step.prepare(host).undo[0].args["active"] is False
    step.apply(host)
    step.verify(host)


@pytest.mark.parametrize(
    ("before", "since", "needed", "stops", "outcome"),
    [
        ([], [], frozenset(), True, Reverted),
        ([], ["16390/1259"], frozenset(), False, Kept),
        ([], ["16390/1259"], frozenset({"postgresql-15"}), False, Partly),
        (["16389/1259"], ["16390/1259"], frozenset(), True, Reverted),
    ],
    ids=["nobody's", "others use it", "nqr's database stays", "stopped with its data before nqr"],
)
def test_stopped_cluster_that_others_came_to_use_runs_on(
    host: FakeHost, before: list[str], since: list[str], needed: frozenset[str], stops: bool, outcome: type[Outcome]
) -> None:
    base = "/var/lib/postgresql/15/main/base"
    host.remove("/var/lib/postgresql/15/main/postmaster.pid")
    host.put("/var/lib/postgresql/15/main/PG_VERSION", "15\n")
    for name in before:
        host.put(f"{base}/{name}", "")
    host.on("systemctl", "show", prefix=True, answer="LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled-runtime\n")
    (undo,) = PostgresClusterRunning(CHOICE, SYSTEMD).prepare(host).undo
    for name in since:
        host.put(f"{base}/{name}", "")
    host.put_directory("/run/systemd/system")
    stopped: list[str] = []
    host.on("systemctl", "stop", prefix=True, changes=True, answer=lambda h, c: stopped.append(c.argv[2]))
    host.on("systemctl", "reset-failed", prefix=True, changes=True)
    done = verbs.revert(UndoContext(host, Originals(host, ORIGINALS), needed_packages=needed), undo)
    assert isinstance(done, outcome) and bool(stopped) is stops
    if isinstance(done, Kept):
        assert "`systemctl stop postgresql@15-main.service` stops it" in done.why


def test_stopped_cluster_runs_in_the_foreground_under_supervisord(host: FakeHost) -> None:
    host.remove("/var/lib/postgresql/15/main/postmaster.pid")
    host.put_directory("/etc/nqrust-microvm/supervisord.d")
    psql(host, lambda sql: "1")
    supervisor = Supervisord()
    host.on(
        *supervisor.control,
        "update",
        "nqrust-postgresql",
        answer=lambda h, c: start(h) or "nqrust-postgresql: added",
    )
    step = PostgresClusterRunning(CHOICE, supervisor)
    assert [u.verb for u in step.prepare(host).undo] == ["file", "unit"]
    step.apply(host)
    step.verify(host)
    text = host.read_text(supervisor.unit_path("nqrust-postgresql"))
    assert "pg_ctlcluster --foreground" in text and "15 main start" in text and "stopsignal=INT" in text


def test_redhat_cluster_runs_as_its_owner() -> None:
    assert cluster_service(cluster(), "redhat").user == "postgres"


def test_missing_cluster_is_reported(host: FakeHost) -> None:
    host.remove("/etc/postgresql/15/main/postgresql.conf")
    step = PostgresClusterRunning(CHOICE, SYSTEMD)
    assert isinstance(step.inspect(host), Needed)
    with pytest.raises(StepFailed) as caught:
        step.prepare(host)
    assert caught.value.code == "NQR-DB-101"


def test_cluster_that_does_not_start_shows_its_log(host: FakeHost) -> None:
    host.remove("/var/lib/postgresql/15/main/postmaster.pid")
    host.put("/var/log/postgresql/postgresql-15-main.log", "FATAL: could not map memory\n")
    host.on("systemctl", "start", prefix=True, answer="")
    with pytest.raises(StepFailed) as caught:
        PostgresClusterRunning(CHOICE, SYSTEMD).apply(host)
    assert caught.value.code == "NQR-DB-102" and "could not map memory" in caught.value.what


# --- the role


def test_role_is_made_without_telling_the_server_the_password(host: FakeHost) -> None:
    rows: list[str] = []

    def answer(sql: str) -> str:
        if "CREATE ROLE" in sql:
            rows.append(re.search(r"PASSWORD '([^']+)'", sql)[1] + "|t|t|f|f")  # type: ignore[index]
        return rows[0] if rows and "SELECT" in sql else ""

    said = psql(host, answer)
    assert isinstance(ROLE.inspect(host), Needed)
    assert ROLE.prepare(host).undo[0].args["name"] == "nexus"
    ROLE.apply(host)
    ROLE.verify(host)
    assert not any(PASSWORD.reveal() in sql for sql in said)
    assert all(cmd.user == "postgres" for cmd in host.commands)


@pytest.mark.parametrize(
    "row, verdict",
    [
        (scram.verifier(PASSWORD.reveal()) + "|t|f|f|f", Satisfied),
        (scram.verifier("another") + "|t|f|f|f", Conflict),
        ("|t||f|f", Conflict),
        (scram.verifier("another") + "|t|t|f|f", Needed),
        (scram.verifier(PASSWORD.reveal()) + "|f|f|f|f", Needed),
    ],
    ids=["same password", "another's", "another's without password", "ours from before", "may not log in"],
)
def test_existing_role_is_adopted_adjusted_or_refused(host: FakeHost, row: str, verdict: type) -> None:
    psql(host, lambda sql: row)
    found = ROLE.inspect(host)
    assert isinstance(found, verdict)
    assert PASSWORD.reveal() not in repr(found) and "SCRAM" not in repr(found) and "s3cret" not in repr(ROLE)
    if verdict is Needed:
        assert ROLE.prepare(host).origin is Origin.modified and not ROLE.prepare(host).undo


def test_lacking_attribute_is_added(host: FakeHost) -> None:
    psql(host, lambda sql: scram.verifier(PASSWORD.reveal()) + "|t|t|f|f")
    found = Role(CHOICE, "nexus", PASSWORD, ("CREATEROLE",)).inspect(host)
    assert isinstance(found, Needed) and found.diff == ("PostgreSQL role nexus: + CREATEROLE",)


def test_postgresql_steps_can_be_planned_before_it_is_installed() -> None:
    host = FakeHost.debian12()
    steps = (SignInRules(CHOICE, "nexus"), ROLE, Database(CHOICE, "nexus", "nexus"), PostgresClusterRunning(CHOICE, SYSTEMD))
    assert all(isinstance(step.inspect(host), Needed) for step in steps)
    assert isinstance(TcpLogin(CHOICE, LOGIN).inspect(host), Satisfied)


# --- the database


def test_database_is_made_in_utf8_for_its_owner(host: FakeHost) -> None:
    made: list[str] = []

    def answer(sql: str) -> str:
        if sql.startswith("CREATE DATABASE"):
            made.append(sql)
        if "pg_database" in sql and "datname" in sql:
            return "nexus|UTF8" if made else ""
        return {"SHOW server_encoding;": "SQL_ASCII"}.get(sql, "t\nplpgsql\npgcrypto" if "extname" in sql else "")

    said = psql(host, answer)
    step = Database(CHOICE, "nexus", "nexus", ("pgcrypto",))
    assert isinstance(step.inspect(host), Needed) and step.prepare(host).undo[0].verb == "database"
    step.apply(host)
    step.verify(host)
    assert "ENCODING 'UTF8'" in made[0] and "LC_CTYPE 'C'" in made[0]
    assert any('CREATE EXTENSION IF NOT EXISTS "pgcrypto"' in sql for sql in said)


@pytest.mark.parametrize(
    "row, privileges, verdict, code",
    [
        ("nexus|UTF8", "t\nplpgsql", Satisfied, ""),
        ("nexus|UTF8", "f\nplpgsql", Needed, ""),
        ("someone|UTF8", "", Conflict, "NQR-DB-104"),
        ("nexus|LATIN1", "", Conflict, "NQR-DB-105"),
    ],
)
def test_existing_database_is_adopted_adjusted_or_refused(
    host: FakeHost, row: str, privileges: str, verdict: type, code: str
) -> None:
    psql(host, lambda sql: row if "datname" in sql else "t|f|t" if sql.startswith("SELECT has_database") else privileges)
    step = Database(CHOICE, "nexus", "nexus", closed=True)
    found = step.inspect(host)
    assert isinstance(found, verdict) and getattr(found, "code", "") == code
    if verdict is Needed:
        (undo,) = step.prepare(host).undo
        assert undo.verb == "database_access", "a database that was there is never dropped"
        assert (undo.args["rights"], undo.retain) == (["CONNECT", "CREATE"], Retain.nothing)
        (undo,) = replace(step, own=True).prepare(host).undo
        assert undo.retain is Retain.database


@pytest.mark.parametrize(
    "tables, verdict",
    [("", Satisfied), ("letters", Conflict), ("alembic_version\nvms", Satisfied), ("_sqlx_migrations\nvms", Satisfied)],
)
def test_tables_of_another_program_are_not_migrated(host: FakeHost, tables: str, verdict: type) -> None:
    psql(host, lambda sql: "nexus|UTF8" if "datname" in sql else tables if "pg_class" in sql else "t\nplpgsql")
    found = Database(CHOICE, "nexus", "nexus", first=True).inspect(host)
    assert isinstance(found, verdict) and (verdict is Satisfied or getattr(found, "code", "") == "NQR-DB-108")
    assert isinstance(Database(CHOICE, "nexus", "nexus").inspect(host), Satisfied), "once installed they are our own"


# --- logging in


def test_login_that_fails_otherwise_is_an_error_with_a_cure(host: FakeHost) -> None:
    psql(host, lambda sql: (_ for _ in ()).throw(CommandFailed(("psql",), 2, "connection refused\n")))
    with pytest.raises(StepFailed) as caught:
        TcpLogin(CHOICE, LOGIN).verify(host)
    assert caught.value.code == "NQR-DB-107" and PASSWORD.reveal() not in str(caught.value)


def test_server_that_still_recovers_is_waited_for(host: FakeHost) -> None:
    tries: list[str] = []

    def answer(sql: str) -> str:
        tries.append(sql)
        if len(tries) < 4:
            raise CommandFailed(("psql",), 2, "FATAL:  the database system is not yet accepting connections\n")
        return "1"

    psql(host, answer)
    assert LOGIN.run(host, "SELECT 1;") == "1"


def test_what_psql_says_is_told_without_its_preamble() -> None:
    where = 'psql: error: connection to server at "127.0.0.1", port 5432 failed: '
    for said, told in (
        (f'{where}FATAL:  database "x" does not exist\n', 'FATAL:  database "x" does not exist'),
        (f"{where}Connection refused\n\tIs the server running on that host?\n", "Connection refused"),
        ("", "psql exited with 2"),
    ):
        assert refusal_text(CommandFailed(("psql",), 2, said)) == told


def test_sql_goes_past_debians_wrapper_of_psql() -> None:
    host = FakeHost.debian12()
    for path in ("9.6/bin/psql", "15/bin/psql", "extra/bin/psql"):
        host.put(f"/usr/lib/postgresql/{path}", "")
    host.on("/usr/lib/postgresql/15/bin/psql", prefix=True, answer="1")
    assert LOGIN.run(host, "SELECT 1;") == "1"
    assert program(FakeHost.debian12()) == "psql", "other distributions have none"


# --- a cluster that its owner may have invented


def test_a_cluster_whose_data_belongs_to_root_is_neither_asked_nor_started(host: FakeHost) -> None:
    host.tree.lookup("/var/lib/postgresql/15/main").uid = 0
    step = PostgresClusterRunning(CHOICE, SYSTEMD)
    found = step.inspect(host)
    assert isinstance(found, Conflict) and found.code == "NQR-DB-117" and "belongs to root" in found.why
    for act in (step.prepare, step.apply, SignInRules(CHOICE, "nexus").apply):
        with pytest.raises(StepFailed) as refused:
            act(host)
        assert refused.value.code == "NQR-DB-117"
    assert isinstance(SignInRules(CHOICE, "nexus").inspect(host), Needed), "a preview tells the conflict of the cluster"
    one = CHOICE.find(host)
    assert one is not None and CHOICE.online(host) is None
    with pytest.raises(HostError, match="belongs to root"):
        as_owner(host, one, "SELECT 1;")
    assert host.commands == []


def test_only_a_server_of_the_owner_is_asked(host: FakeHost) -> None:
    psql(host, lambda sql: "")
    as_owner(host, CHOICE.require(host), "SELECT 1;")
    (asked,) = host.commands
    assert (asked.user, asked.env["PGREQUIREPEER"]) == ("postgres", "postgres")
