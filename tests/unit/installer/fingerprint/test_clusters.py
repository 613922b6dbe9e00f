"""What the fingerprint says of PostgreSQL clusters."""

from __future__ import annotations

import pytest
from tests.unit.installer.fingerprint.test_fingerprint import machine

from nqrust.host.port import Completed
from nqrust.installer.fingerprint import compare, render, take


def test_roles_and_databases_of_a_running_cluster() -> None:
    host = machine()
    host.add_user("postgres", 105)
    host.put("/etc/postgresql/15/main/postgresql.conf", "data_directory = '/d'\nport = 5432\n")
    host.put_directory("/d", mode=0o700, owner="postgres")
    host.put("/d/postmaster.pid", "88\n/d\n1\n5432\n/run/pg\n")
    host.put("/proc/88/comm", "postgres")
    host.on("psql", prefix=True, answer="role\tpostgres\tt\ndatabase\tpostgres\tpostgres\n")
    before = take(host)
    host.on("psql", prefix=True, answer="role\tpostgres\tt\nrole\tnexus\tf\ndatabase\tpostgres\tpostgres\n")
    assert "+ role 15/main nexus (f)" in render(compare(before, take(host)))
    host.on("psql", prefix=True, answer=Completed((), 2, "", "connection refused"))
    assert any("PostgreSQL 15/main" in line for line in take(host).unread)
    host.on("psql", prefix=True, answer=lambda host, cmd: pytest.fail(str(cmd.user)))
    host.tree.lookup("/d").uid = 0
    assert any("/d belongs to root" in line for line in take(host).unread)
