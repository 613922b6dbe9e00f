"""Migrations lead to exactly the tables that the program uses, also when two run at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

import nqrust
from nqrust.manager.store import migrations
from nqrust.manager.store.database import SCHEMA_HEAD
from nqrust.manager.store.migrate import migrate
from nqrust.manager.store.tables import Base


def test_migrated_database_equals_the_tables_and_the_program_knows_its_head(tables_url: str) -> None:
    engine = create_engine(tables_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()
    assert ScriptDirectory(migrations.__path__[0]).get_current_head() == SCHEMA_HEAD


def test_two_concurrent_migrations_run_once(database_url: str) -> None:
    url = database_url.replace("postgresql://", "postgresql+psycopg://")
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(migrate(url))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {before for before, _ in results} == {None, SCHEMA_HEAD}
    assert {after for _, after in results} == {SCHEMA_HEAD}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nqrust.manager", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", **environment},
    )


def test_migrate_command_line_works(database_url: str) -> None:
    assert run("--version").stdout.strip() == nqrust.__version__
    done = run()
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "NQR-CFG-710" in done.stderr
    done = run(DATABASE_URL=database_url)
    assert done.returncode == 1 and "NQR-DB-711" in done.stderr
    assert run("migrate", DATABASE_URL=database_url).returncode == 0
    done = run("migrate", DATABASE_URL=database_url)
    assert done.returncode == 0 and "already" in done.stdout
    away = run("migrate", DATABASE_URL="postgresql://u:secret@127.0.0.1:9/n", MANAGER_DATABASE_WAIT_SECONDS="0")
    assert away.returncode == 1 and "NQR-DB-710" in away.stderr and "secret" not in away.stderr
    assert run("nonsense").returncode == 2
