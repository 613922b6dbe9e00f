"""No rollback drops a database that users have filled, and none asks it as the owner of the cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.installer.operations.a_used_platform import (
    CLUSTER,
    FOLDERS,
    LAYOUT,
    Bench,
    Made,
    bench,
    fails,
    rollback,
    uninstall,
)

from nqrust.contract import paths
from nqrust.host.errors import CommandFailed, PathError
from nqrust.installer import secret_store
from nqrust.installer.engine import runner as runner_module
from nqrust.installer.engine.rollback import roll_back
from nqrust.installer.engine.step import Step
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.operations import belongings
from nqrust.installer.operations.belongings import Belongings
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.file.undo import undo_directory, undo_file
from nqrust.installer.verbs.postgres import undo as postgres
from nqrust.installer.verbs.postgres.undo import undo_database

__all__ = ["bench"]


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
    if not ends:
        assert uninstall().outcome == "ok"
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


@pytest.mark.parametrize(("mounted", "told"), [(True, "3 VMs in the database nexus"), (False, "which cannot be asked now")])
def test_a_database_whose_cluster_moved_is_asked_where_it_is_now(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, mounted: bool, told: str
) -> None:
    def asked(sql: str) -> str:
        if not mounted:
            raise CommandFailed(("psql",), 2, "connection refused\n")
        return tables(vms=3)(sql)

    with_database(bench, monkeypatch, asked)
    monkeypatch.setattr(belongings, "find", postgres.find)
    bench.host.add_user("postgres", 105)
    bench.host.put("/etc/postgresql/15/main/postgresql.conf", "data_directory = '/data/pg/main'\n")
    if mounted:
        bench.host.put("/data/pg/main/PG_VERSION", "15\n")
    done = rollback()
    assert done.failure is not None and told in done.failure.what and bench.host.exists("/etc/app.conf")
