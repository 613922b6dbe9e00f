"""Migrations lead to exactly the tables that the program uses, also when two run at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import Session

import nqrust
from nqrust.host.local import LocalHost
from nqrust.host.secret import Secret
from nqrust.installer.engine.step import Needed
from nqrust.installer.platform.migrate import Migrate
from nqrust.installer.verbs.postgres.sql import Connection
from nqrust.manager.store import migrations
from nqrust.manager.store.database import SCHEMA_HEAD
from nqrust.manager.store.migrate import migrate
from nqrust.manager.store.tables import Base, Image, Vm


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


OLD_ROWS = """
INSERT INTO users (id, username, password_hash, role) VALUES ('u1', 'ann', 'x', 'admin');
INSERT INTO tokens (id, kind, name, sha256, role, user_id) VALUES
  ('t1', 'session', 'ann', 'a', 'admin', 'u1'), ('t2', 'api', 'ci', 'b', 'operator', NULL), ('t3', 'bootstrap', 'nqr-cli', 'c', 'admin', NULL);
INSERT INTO join_tokens (id, name, sha256, reusable, created_by) VALUES
  ('j1', NULL, 'd', false, 'ann'), ('j2', 'this-host', 'e', true, 'installer');
INSERT INTO audit (actor, method, path, status, request_id, source) VALUES ('ann', 'POST', '/v1/vms', 202, 'r', '192.0.2.1');
"""


def of_schema(revision: str, database_url: str, statements: list[str]) -> tuple[str, Engine]:
    """Make a database of an older schema with these rows. Return its URL for SQLAlchemy, and an engine."""
    url = database_url.replace("postgresql://", "postgresql+psycopg://")
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        for statement in statements:
            connection.execute(text(statement))
    return url, engine


def test_upgrade_from_schema_0001_keeps_tokens_and_the_audit_log(database_url: str) -> None:
    """A join token for any host name ends with the upgrade. A manager of the old schema can still write."""
    url, engine = of_schema("0001", database_url, OLD_ROWS.split(";\n")[:-1])
    assert migrate(url) == ("0001", SCHEMA_HEAD)
    with engine.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []

        def rows(query: str) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in connection.execute(text(query))]

        tokens = "SELECT id, role, user_id, created_by, parent_id FROM tokens ORDER BY id"
        assert rows(tokens) == [
            ("t1", "admin", "u1", "", None),
            ("t2", "operator", None, "", None),
            ("t3", "admin", None, "installer", None),
        ]
        assert rows('SELECT id, host_name, "replace" FROM join_tokens') == [("j2", None, False)]
        assert rows("SELECT actor, username, code FROM audit") == [("ann", "", "")]
        connection.execute(
            text(OLD_ROWS.split(";\n")[1].replace("'t", "'x").replace("'a'", "'p'").replace("'b'", "'q'").replace("'c'", "'r'"))
        )
        connection.execute(text(OLD_ROWS.split(";\n")[3]))
    engine.dispose()


IMAGE = """INSERT INTO images (id, name, path, managed, state, error, manifest, checked) VALUES
  ('i{n}', 'tiny{n}', '/srv/images/tiny', true, 'ready', '', '{{}}', '{{}}')"""
VM = """INSERT INTO vms (id, name, image_id, image, vcpus, memory_mib, disk_mib, desired_state, state, generation, observed_generation, mac,
  tap, guest_token, guest_token_sha256, error, restarts, drained, created_by, spec) VALUES ('v{n}', 'web{n}', 'i{n}', 'tiny{n}', 1, 256, 512,
  'running', 'running', 1, 1, '02:00:00:00:00:0{n}', 'tap{n}', 't', 's', '', 0, false, 'ann', '{{}}')"""


def test_upgrade_from_schema_0005_keeps_images_and_running_vms(database_url: str) -> None:
    """Images of before were not pulled, and no process has ended. A manager of the old schema can still write."""
    url, engine = of_schema("0005", database_url, [statement.format(n=1).replace(":0", "\\:0") for statement in (IMAGE, VM)])
    assert migrate(url) == ("0005", SCHEMA_HEAD)
    with Session(engine) as session:
        for statement in (IMAGE, VM):
            session.execute(text(statement.format(n=2).replace(":0", "\\:0")))
        images, vms = session.scalars(select(Image)).all(), session.scalars(select(Vm).order_by(Vm.id)).all()
        assert [(image.state, image.origin, image.digest) for image in images] == [("ready", "", "")] * 2
        assert [(vm.name, vm.state, vm.exit_code) for vm in vms] == [("web1", "running", None), ("web2", "running", None)]
    engine.dispose()


def test_a_re_run_sees_that_an_older_dump_was_restored(cluster: Any, database_url: str, tmp_path: Path) -> None:
    host, database = LocalHost(), database_url.rsplit("/", 1)[1]
    login = Connection("127.0.0.1", cluster.port, database, "nexus", Secret(cluster.password))
    tool = (sys.executable, "-m", "nqrust.manager", "migrate")
    step = Migrate(tool, "1.0", str(tmp_path / "migrated"), login, str(tmp_path), env={"DATABASE_URL": Secret(database_url)})
    step.apply(host)
    step.verify(host)
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")
    engine.dispose()
    assert isinstance(step.inspect(host), Needed)
    step.apply(host)
    step.verify(host)


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
