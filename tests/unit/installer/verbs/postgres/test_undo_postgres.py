"""Dropping role and database: from a running server, or without a server from a stopped cluster."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.errors import CommandFailed
from nqrust.host.port import Command
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.verb import Kept, Outcome, Partly, Reverted, UndoContext
from nqrust.installer.verbs.postgres import undo as postgres
from nqrust.installer.verbs.postgres.undo import undo_database, undo_role
from nqrust.installer.verbs.registry import revert

DATA, CONF = "/var/lib/postgresql/15/main", "/etc/postgresql/15/main/postgresql.conf"
SERVER = "/usr/lib/postgresql/15/bin/postgres"
RECORD: dict[str, Any] = {"user": "postgres", "port": 5432, "socket_dir": "/var/run/postgresql", "data_dir": DATA}
OLD: dict[str, Any] = {"user": "postgres", "port": 5432, "socket_dir": "/var/run/postgresql"}


def debian(*, online: bool, port: int = 5432) -> FakeHost:
    host = FakeHost.debian12()
    host.add_user("postgres", 105)
    host.put(CONF, f"data_directory = '{DATA}'\nport = {port}\n")
    host.put(f"{DATA}/PG_VERSION", "15\n")
    host.put(SERVER, "a program", mode=0o755)
    if online:
        host.put(f"{DATA}/postmaster.pid", f"700\n{DATA}\n1700000000\n{port}\n/var/run/postgresql\nlocalhost\n")
        host.put("/proc/700/comm", "postgres\n")
        host.on("psql", prefix=True, changes=True)
    else:
        host.on(SERVER, prefix=True, changes=True)
    return host


def database(host: FakeHost, cluster: dict[str, Any] = RECORD) -> Outcome:
    return revert(UndoContext(host, Originals(host, "/var/lib/o")), undo_database(cluster, "nexus"))


def last(host: FakeHost) -> Command:
    return host.commands[-1]


@pytest.mark.parametrize("cluster", [RECORD, OLD])
def test_undo_queries_a_running_cluster(cluster: dict[str, Any]) -> None:
    host = debian(online=True)
    assert database(host, cluster) == Reverted()
    assert last(host).argv[0] == "psql" and last(host).user == "postgres"
    assert last(host).input == b'DROP DATABASE IF EXISTS "nexus" WITH (FORCE);\n'


@pytest.mark.parametrize("cluster", [RECORD, OLD])
def test_a_cluster_that_does_not_run_needs_no_server(cluster: dict[str, Any]) -> None:
    """An uninstall kept the database without an init system, or an administrator stopped the cluster."""
    host = debian(online=False)
    host.put(f"{DATA}/postmaster.pid", "700\n")  # of a server that was killed
    assert database(host, cluster) == Reverted()
    argv = last(host).argv
    assert argv[:4] == (SERVER, "--single", "-D", DATA) and argv[-1] == "postgres" and f"config_file={CONF}" in argv
    assert last(host).user == "postgres" and last(host).input == b'DROP DATABASE IF EXISTS "nexus" WITH (FORCE);\n'
    assert "exit_on_error=on" in argv, "a statement that fails must be seen"


def test_a_cluster_that_moved_to_another_port_is_found_by_its_data() -> None:
    host = debian(online=True, port=5499)
    assert database(host) == Reverted()
    assert "5499" in last(host).argv


def test_red_hats_cluster_has_its_configuration_in_its_data() -> None:
    host = FakeHost.debian12()
    host.add_user("postgres", 26)
    host.put("/var/lib/pgsql/data/PG_VERSION", "15\n")
    host.put("/usr/bin/postgres", "a program", mode=0o755)
    host.on("/usr/bin/postgres", prefix=True, changes=True)
    assert database(host, {**RECORD, "data_dir": "/var/lib/pgsql/data"}) == Reverted()
    assert not any("config_file" in word for word in last(host).argv)


@pytest.mark.parametrize("what", ["its user", "its configuration", "its data"])
def test_undo_accepts_a_missing_cluster(what: str) -> None:
    host = debian(online=False)
    if what == "its user":
        del host.users["postgres"]
    elif what == "its configuration":
        host.remove(CONF)
    else:
        host.remove_tree(DATA)
    outcome = database(host)
    assert isinstance(outcome, Reverted) and "gone already" in outcome.note
    assert host.commands == []


def test_without_its_programs_the_database_waits_until_they_are_back() -> None:
    host = debian(online=False)
    host.remove(SERVER)
    outcome = database(host)
    assert isinstance(outcome, Partly) and DATA in outcome.why


@pytest.mark.parametrize("online", [True, False])
def test_a_role_that_owns_more_is_kept(online: bool) -> None:
    host = debian(online=online)

    def refuse(host: FakeHost, cmd: Command) -> str:
        raise CommandFailed(cmd.argv, 1, "FATAL:  2BP01: Rolle »nexus« kann nicht gelöscht werden, …\n")

    host.on("psql" if online else SERVER, prefix=True, changes=True, answer=refuse)
    outcome = revert(UndoContext(host, Originals(host, "/var/lib/o")), undo_role(RECORD, "nexus"))
    assert isinstance(outcome, Kept) and "owns objects" in outcome.why
    assert 'run as postgres REASSIGN OWNED BY "nexus" TO postgres; DROP OWNED BY "nexus"' in outcome.why
    assert outcome.why.endswith('then DROP ROLE "nexus"')


def test_each_kind_of_cluster_has_its_server_program() -> None:
    (found,) = (postgres.find(host, RECORD) for host in [debian(online=False)])
    assert found is not None and postgres.server(found) == (SERVER, CONF)
