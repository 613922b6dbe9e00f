"""An account of the host with the name of the database role gets nothing from a real cluster with its distribution's rules."""

from __future__ import annotations

import glob
import os
import pwd
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from nqrust.host.facts.model import PostgresCluster
from nqrust.host.local import LocalHost
from nqrust.host.port import Host
from nqrust.host.secret import Secret
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.step import Needed, Satisfied
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.postgres.cluster import ClusterChoice
from nqrust.installer.verbs.postgres.database import Database
from nqrust.installer.verbs.postgres.login import TcpLogin
from nqrust.installer.verbs.postgres.role import Role
from nqrust.installer.verbs.postgres.rules import SignInRules
from nqrust.installer.verbs.postgres.sql import Connection, as_owner, program
from nqrust.installer.verbs.registry import VERBS

_OWNER, _ACCOUNT = "nobody", "daemon"
"""The cluster's owner, and an account that has the name of the manager's role."""
_DEBIANS = """local all nobody peer
local all all peer
host all all 127.0.0.1/32 scram-sha-256
"""
_FEDORAS = """local all all peer
host all all 127.0.0.1/32 ident
"""
_OPEN = """local all all trust
host all all 127.0.0.1/32 scram-sha-256
"""
PASSWORD = Secret("right")


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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="nqr-pg-", dir="/tmp") as place:
        os.chown(place, pwd.getpwnam(_OWNER).pw_uid, -1)
        os.chmod(place, 0o755)
        data = f"{place}/data"

        def run(name: str, *arguments: str) -> None:
            argv = ["runuser", "-u", _OWNER, "--", f"{folder}/{name}", "-D", data, *arguments]
            subprocess.run(argv, check=True, cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60)

        run("initdb", "-U", _OWNER, "--auth=peer", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -k {place} -c fsync=off"
        run("pg_ctl", "-w", "-s", "-l", f"{place}/log", "-o", options, "start")
        try:
            yield PostgresCluster(int(folder.split("/")[4]), "main", port, True, _OWNER, data, place)
        finally:
            run("pg_ctl", "-w", "-s", "-m", "immediate", "stop")


@pytest.fixture(params=[_DEBIANS, _FEDORAS, _OPEN], ids=["debian", "fedora", "open"])
def host(cluster: PostgresCluster, request: pytest.FixtureRequest) -> LocalHost:
    """The machine, where a release of before made role and database."""
    host = LocalHost()
    write_rules(host, cluster, request.param)
    as_owner(host, cluster, f"DROP DATABASE IF EXISTS {_ACCOUNT} WITH (FORCE);")
    as_owner(host, cluster, f"DROP ROLE IF EXISTS {_ACCOUNT};")
    fixed = _Fixed(one=cluster)
    for step in (Role(fixed, _ACCOUNT, PASSWORD), Database(fixed, _ACCOUNT, _ACCOUNT, closed=True)):
        step.apply(host)
    return host


def write_rules(host: LocalHost, cluster: PostgresCluster, text: str) -> None:
    host.write_file(f"{cluster.data_dir}/pg_hba.conf", text.encode(), mode=0o600, owner=_OWNER)
    as_owner(host, cluster, "SELECT pg_reload_conf();")


def argv(host: LocalHost, cluster: PostgresCluster, database: str) -> list[str]:
    where = ["-h", cluster.socket_dir, "-p", str(cluster.port), "-U", _ACCOUNT, "-d", database]
    return ["runuser", "-u", _ACCOUNT, "--", program(host), "-X", "-A", "-t", "-q", "-w", *where]


def gets_in(host: LocalHost, cluster: PostgresCluster, database: str) -> bool:
    sql = "SELECT current_user;"
    done = subprocess.run(argv(host, cluster, database), input=sql, text=True, timeout=60, capture_output=True, cwd="/")
    return done.stdout.strip() == _ACCOUNT


def test_an_account_with_the_name_of_the_role(host: LocalHost, cluster: PostgresCluster) -> None:
    fixed = _Fixed(one=cluster)
    hba = f"{cluster.data_dir}/pg_hba.conf"
    before = host.read_text(hba)
    step = SignInRules(fixed, _ACCOUNT)
    assert gets_in(host, cluster, _ACCOUNT) and gets_in(host, cluster, "postgres"), "the test can see a hole"
    with subprocess.Popen(argv(host, cluster, "postgres"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as earlier:
        assert earlier.stdin is not None and earlier.stdout is not None
        earlier.stdin.write(b"SELECT 1;\n")
        earlier.stdin.flush()
        assert earlier.stdout.readline() == b"1\n"
        assert isinstance(step.inspect(host), Needed)
        undo = step.prepare(host).undo
        step.apply(host)
        step.verify(host)
        said, _ = earlier.communicate(b"SELECT 2;\n", timeout=60)
        assert said == b"", "a session that began before"
    assert not gets_in(host, cluster, _ACCOUNT)
    assert not gets_in(host, cluster, "postgres"), "there it could give itself a password"
    login = Connection("127.0.0.1", cluster.port, _ACCOUNT, _ACCOUNT, PASSWORD)
    TcpLogin(fixed, login).verify(host)
    assert isinstance(step.inspect(host), Satisfied)
    for record in reversed(undo):
        VERBS.revert(UndoContext(host, Originals(host, "/nowhere")), record)
    assert host.read_text(hba) == before
