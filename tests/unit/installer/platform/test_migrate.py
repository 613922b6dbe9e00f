"""Migrations: nqr copies a filled database first, records the migration, and never assumes it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.verbs.postgres.scripted_psql import LOGIN, psql

from nqrust.host.errors import CommandFailed, ProgramMissing
from nqrust.host.port import Command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Needed, Satisfied
from nqrust.installer.platform.migrate import Migrate


@pytest.fixture
def host() -> FakeHost:
    return FakeHost.debian12()


MIGRATE = Migrate(("/m", "migrate"), "1.0", "/etc/migrated", LOGIN, "/opt/backups", env=LOGIN.environment(), user="nobody")


def migrating(host: FakeHost, tables: int) -> list[str]:
    state = {"tables": str(tables), "schema": ""}
    host.put_directory("/opt/backups", mode=0o700)

    def answer(sql: str) -> str:
        return state["schema" if "version_num" in sql else "tables"]

    def dump(host: FakeHost, cmd: Command) -> None:
        path = next(w for w in cmd.argv if w.startswith("--file=")).removeprefix("--file=")
        assert host.stat(path).mode == 0o600  # type: ignore[union-attr]
        host.write_file(path, b"copy", mode=0o600)

    order: list[str] = []
    psql(host, answer)
    host.on("pg_dump", prefix=True, answer=lambda h, c: order.append("dump") or dump(h, c))  # type: ignore[func-returns-value]
    host.on("/m", "migrate", answer=lambda h, c: order.append("migrate") or state.update(schema="0007"))  # type: ignore[func-returns-value]
    return order


def killed_at(path: str, call: str, host: FakeHost, monkeypatch: pytest.MonkeyPatch, *, after: bool = False) -> None:
    """Migrate, with a kill at the first such call on this path."""
    real = getattr(host, call)

    def killed(at: str, *more: Any, **options: Any) -> None:
        if not at.endswith(path) or after:
            real(at, *more, **options)
        if at.endswith(path):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(host, call, killed)
        with pytest.raises(KeyboardInterrupt):
            MIGRATE.apply(host)


def test_empty_database_is_migrated_without_a_copy(host: FakeHost) -> None:
    order = migrating(host, 0)
    assert isinstance(MIGRATE.inspect(host), Needed)
    assert [u.args["path"] for u in MIGRATE.prepare(host).undo] == ["/etc/migrated"]
    MIGRATE.apply(host)
    MIGRATE.verify(host)
    assert order == ["migrate"]


def test_database_with_something_to_lose_is_copied_first_and_once(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    order = migrating(host, 12)
    assert [u.verb for u in MIGRATE.prepare(host).undo] == ["file", "file", "file"]
    killed_at(".migrating", "remove", host, monkeypatch)
    MIGRATE.apply(host)
    assert order == ["dump", "migrate", "migrate"] and host.listdir("/opt/backups") == ["nexus-before-1.0.dump"]


@pytest.mark.parametrize("after", [False, True])
def test_a_migration_that_has_ended_stands_for_no_later_one(host: FakeHost, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    """A kill at the very end left its file for good. Weeks later, somebody restored an older dump."""
    migrating(host, 12)
    killed_at("/etc/migrated", "write_file", host, monkeypatch, after=after)
    assert host.listdir("/opt/backups") == ["nexus-before-1.0.dump"]
    order = migrating(host, 12)
    assert isinstance(MIGRATE.inspect(host), Needed)
    MIGRATE.apply(host)
    assert order == ["dump", "migrate"] and len(host.listdir("/opt/backups")) == 2


def test_a_copy_that_a_rollback_left_does_not_stand_for_a_new_one(host: FakeHost) -> None:
    """The migration failed and was rolled back. People worked on, and the same upgrade comes again weeks later."""
    migrating(host, 12)
    host.on("/m", "migrate", answer=CommandFailed(("/m",), 1, "no"))
    with pytest.raises(StepFailed):
        MIGRATE.apply(host)
    records = [undo.args["path"] for undo in MIGRATE.prepare(host).undo]
    assert records == ["/etc/migrated"], "the copy of the interrupted migration is used again"
    host.remove("/opt/backups/nexus-to-1.0.migrating")  # as its record has the rollback do
    again = [undo.args["path"] for undo in MIGRATE.prepare(host).undo]
    assert again == ["/etc/migrated", "/opt/backups/nexus-to-1.0.migrating", "/opt/backups/nexus-before-1.0-2.dump"]
    with pytest.raises(StepFailed) as caught:
        MIGRATE.apply(host)
    assert "/opt/backups/nexus-before-1.0-2.dump" in caught.value.what
    assert sorted(host.listdir("/opt/backups")) == [
        "nexus-before-1.0-2.dump", "nexus-before-1.0.dump", "nexus-to-1.0.migrating",
    ]  # fmt: skip


def test_failed_copy_stops_before_migrating(host: FakeHost) -> None:
    order = migrating(host, 12)
    host.on("pg_dump", prefix=True, answer=CommandFailed(("pg_dump",), 1, "server version mismatch"))
    with pytest.raises(StepFailed) as caught:
        MIGRATE.apply(host)
    assert caught.value.code == "NQR-DB-112" and order == [] and host.listdir("/opt/backups") == []


def test_failed_migration_names_the_copy(host: FakeHost) -> None:
    migrating(host, 12)
    host.on("/m", "migrate", answer=CommandFailed(("/m",), 1, "boom"))
    with pytest.raises(StepFailed) as caught:
        MIGRATE.apply(host)
    assert caught.value.code == "NQR-DB-110" and "/opt/backups/nexus-before-1.0.dump" in caught.value.what
    assert not host.exists("/etc/migrated")


def test_marker_does_not_outlive_its_database(host: FakeHost) -> None:
    migrating(host, 0)
    host.put("/etc/migrated", "1.0 127.0.0.1:5432/nexus\n")
    assert isinstance(MIGRATE.inspect(host), Needed)


@pytest.mark.parametrize(("schema", "satisfied"), [("0007", True), ("0010", True), ("0006", False), ("", False)])
def test_a_database_restored_from_an_older_dump_is_migrated_again(host: FakeHost, schema: str, satisfied: bool) -> None:
    """A newer schema stays, as after a downgrade: the manager reads it."""
    order = migrating(host, 0)
    MIGRATE.apply(host)
    psql(host, lambda sql: schema if "version_num" in sql else "12")
    assert isinstance(MIGRATE.inspect(host), Satisfied) == satisfied
    if not satisfied:
        migrating(host, 12)
        MIGRATE.apply(host)
        MIGRATE.verify(host)
    assert order == ["migrate"]


def test_a_marker_of_an_earlier_nqr_is_outdated_once(host: FakeHost) -> None:
    migrating(host, 12)
    MIGRATE.apply(host)
    host.put("/etc/migrated", "1.0 127.0.0.1:5432/nexus\n")
    assert isinstance(MIGRATE.inspect(host), Needed)
    MIGRATE.apply(host)
    MIGRATE.verify(host)


def test_missing_psql_is_said(host: FakeHost) -> None:
    host.on("psql", prefix=True, answer=ProgramMissing("psql"))
    with pytest.raises(StepFailed, match="NQR-DB-111"):
        MIGRATE.apply(host)
