"""Roles and owners of databases get no rights from statements that nqr runs as a real cluster's owner."""

from __future__ import annotations

import glob
import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from nqrust.host.facts import postgres as facts
from nqrust.host.facts.model import PostgresCluster
from nqrust.host.local import LocalHost
from nqrust.host.port import Host
from nqrust.host.secret import Secret
from nqrust.installer.engine.step import Needed, Satisfied
from nqrust.installer.fingerprint import postgres as fingerprint
from nqrust.installer.verbs.postgres.cluster import ClusterChoice
from nqrust.installer.verbs.postgres.database import Database
from nqrust.installer.verbs.postgres.role import Role
from nqrust.installer.verbs.postgres.sql import as_owner, program
from nqrust.manager.store.database import LEADER_LOCK

_OWNER = "nobody"
_TRAP = """CREATE FUNCTION public.{} RETURNS {} LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('is_superuser') = 'on' THEN EXECUTE 'ALTER ROLE ' || session_user || ' CONNECTION LIMIT 7'; END IF;
    RETURN {}; END $$;"""
"""A function that leaves a mark if a superuser calls it."""
_MARKS = f"SELECT count(*) FROM pg_roles WHERE rolname = '{_OWNER}' AND rolconnlimit = 7;"


@dataclass(frozen=True)
class _Fixed(ClusterChoice):
    one: PostgresCluster | None = None

    def find(self, host: Host) -> PostgresCluster | None:
        return self.one


@pytest.fixture(scope="module")
def cluster() -> Iterator[PostgresCluster]:
    binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    if not binaries or os.geteuid() != 0:
        pytest.skip("needs a PostgreSQL server, and root to run it as another user")
    folder = os.path.dirname(binaries[-1])
    with tempfile.TemporaryDirectory(prefix="nqr-pg-", dir="/tmp") as place:
        os.chown(place, pwd.getpwnam(_OWNER).pw_uid, -1)
        data = f"{place}/data"

        def run(name: str, *arguments: str) -> None:
            argv = ["runuser", "-u", _OWNER, "--", f"{folder}/{name}", "-D", data, *arguments]
            subprocess.run(argv, check=True, cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60)

        run("initdb", "-U", _OWNER, "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        run("pg_ctl", "-w", "-s", "-l", f"{place}/log", "-o", f"-c listen_addresses= -k {place} -c fsync=off", "start")
        try:
            version = int(folder.split("/")[4])
            yield PostgresCluster(version, "main", 5432, True, _OWNER, data, place)
        finally:
            run("pg_ctl", "-w", "-s", "-m", "immediate", "stop")


@pytest.fixture
def host(cluster: PostgresCluster) -> LocalHost:
    """The machine, where the role nexus owns a database, and roles may create functions as before PostgreSQL 15."""
    host = LocalHost()
    as_owner(host, cluster, "DROP DATABASE IF EXISTS nexus;")
    as_owner(host, cluster, "DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO PUBLIC;")
    as_owner(host, cluster, f"DROP ROLE IF EXISTS nexus; CREATE ROLE nexus LOGIN; ALTER ROLE {_OWNER} CONNECTION LIMIT -1;")
    as_owner(host, cluster, "CREATE DATABASE nexus OWNER nexus TEMPLATE template0;")
    as_owner(host, cluster, "GRANT CREATE ON SCHEMA public TO PUBLIC;", "nexus")
    as_owner(host, cluster, "DROP ROLE IF EXISTS neighbour; CREATE ROLE neighbour LOGIN;")
    return host


def as_role(host: Host, cluster: PostgresCluster, database: str, sql: str, role: str = "nexus") -> str:
    argv = [program(host), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", cluster.socket_dir, "-U", role, "-d", database]
    return subprocess.run(argv, input=sql, text=True, check=True, timeout=60, stdout=subprocess.PIPE).stdout.strip()


def unaware(host: Host, cluster: PostgresCluster, database: str, sql: str) -> None:
    """Run SQL as a superuser who has set nothing."""
    argv = ["runuser", "-u", _OWNER, "--", program(host), "-X", "-q", "-h", cluster.socket_dir, "-d", database]
    subprocess.run(argv, input=sql, text=True, check=True, timeout=60, stdout=subprocess.DEVNULL, cwd="/")


def test_a_role_that_creates_functions_beside_its_databases(host: LocalHost, cluster: PostgresCluster) -> None:
    as_role(host, cluster, "postgres", _TRAP.format("shobj_description(oid, text)", "text", "'x'"))
    Role(_Fixed(one=cluster), "nexus", Secret("a")).inspect(host)
    assert as_owner(host, cluster, _MARKS) == "0"
    unaware(host, cluster, "postgres", "SELECT shobj_description(oid, 'pg_authid') FROM pg_authid;")
    assert as_owner(host, cluster, _MARKS) == "1", "the trap works"


def test_a_fingerprint(host: LocalHost, cluster: PostgresCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    as_role(host, cluster, "postgres", _TRAP.format("array_to_string(aclitem[], text)", "text", "'x'"))
    monkeypatch.setattr(facts, "probe", lambda host: [cluster])
    as_owner(host, cluster, "GRANT CONNECT ON DATABASE nexus TO nexus;")  # a list of rights, which the statement prints
    unread: list[str] = []
    taken = fingerprint.take(host, unread)
    assert not unread and f"database {cluster.version}/main nexus" in taken
    assert as_owner(host, cluster, _MARKS) == "0"
    unaware(host, cluster, "postgres", "SELECT array_to_string(datacl, ' ') FROM pg_database;")
    assert as_owner(host, cluster, _MARKS) == "1", "the trap works"


def test_an_owner_of_a_database_that_puts_its_own_functions_first(host: LocalHost, cluster: PostgresCluster) -> None:
    trap = _TRAP.format("has_schema_privilege(text, text, text)", "boolean", "true")
    as_role(host, cluster, "nexus", f"ALTER DATABASE nexus SET search_path = public, pg_catalog;{trap}")
    step = Database(_Fixed(one=cluster), "nexus", "nexus", ("pgcrypto",))
    step.inspect(host)
    step.apply(host)
    assert as_owner(host, cluster, _MARKS) == "0"
    where = "SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'pgcrypto';"
    assert as_owner(host, cluster, where, "nexus") == "public", "where programs look for it"
    unaware(host, cluster, "nexus", "SELECT has_schema_privilege('nexus', 'public', 'CREATE');")
    assert as_owner(host, cluster, _MARKS) == "1", "the trap works"


_OPERATOR = """CREATE FUNCTION public.trap(varchar, varchar) RETURNS boolean LANGUAGE sql AS $$ SELECT current_user = 'nexus' $$;
CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = public.trap);"""
"""Fits each comparison of the manager's columns: PostgreSQL has none of its own for varchar."""
_COMPARED = "SELECT 'a'::varchar = 'b'::varchar;"


def test_a_role_that_holds_the_lock_of_the_managers_leader(host: LocalHost, cluster: PostgresCluster) -> None:
    """Without the lock, no manager runs operations, for as long as the other role likes."""
    step = Database(_Fixed(one=cluster), "nexus", "nexus", closed=True)
    takes = f"SELECT pg_try_advisory_lock({LEADER_LOCK});"
    assert isinstance(step.inspect(host), Needed), "a database of before"
    step.apply(host)
    assert isinstance(step.inspect(host), Satisfied)
    with pytest.raises(subprocess.CalledProcessError):
        as_role(host, cluster, "nexus", takes, "neighbour")
    assert as_role(host, cluster, "nexus", takes) == "t"
    as_owner(host, cluster, "GRANT CONNECT ON DATABASE nexus TO PUBLIC;", "nexus")
    where = ["-h", cluster.socket_dir, "-U", "neighbour", "-d", "nexus"]
    with subprocess.Popen(
        [program(host), "-X", "-A", "-t", "-q", *where], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        holder.stdin.write(takes.encode() + b"\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == b"t\n"
        assert as_role(host, cluster, "nexus", takes) == "f", "the test can see a hole"
        holder.stdin.close()


def test_a_role_that_creates_operators_in_the_database(host: LocalHost, cluster: PostgresCluster) -> None:
    step = Database(_Fixed(one=cluster), "nexus", "nexus")
    assert isinstance(step.inspect(host), Needed), "a database of before"
    step.apply(host)
    assert isinstance(step.inspect(host), Satisfied)
    with pytest.raises(subprocess.CalledProcessError):
        as_role(host, cluster, "nexus", _OPERATOR, "neighbour")
    assert as_role(host, cluster, "nexus", _COMPARED) == "f"
    as_owner(host, cluster, "GRANT CREATE ON SCHEMA public TO PUBLIC;", "nexus")
    as_role(host, cluster, "nexus", _OPERATOR, "neighbour")
    assert as_role(host, cluster, "nexus", _COMPARED) == "t", "the trap works"
