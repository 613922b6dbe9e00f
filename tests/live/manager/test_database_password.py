"""The password of the database changes under a running manager: existing connections stay, and new ones find it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from nqrust.manager.errors import DatabaseAway, SettingsError
from nqrust.manager.settings import from_environment
from nqrust.manager.store.database import Database


class Role:
    """A role of its own in the cluster, and the file with its password."""

    def __init__(self, cluster: Any, folder: Path) -> None:
        self._admin, self.name, self.file = cluster.url("postgres"), "rotating", folder / "password"
        self.run("DROP ROLE IF EXISTS rotating", "CREATE ROLE rotating LOGIN")
        self.set("one")
        self.write("one")
        where = urlsplit(self._admin)
        self.url = f"postgresql+psycopg://rotating@127.0.0.1:{where.port}/postgres"

    def run(self, *statements: str) -> None:
        with psycopg.connect(self._admin, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def set(self, password: str) -> None:
        self.run(f"ALTER ROLE rotating PASSWORD '{password}'")

    def write(self, password: str) -> None:
        self.file.write_text(password + "\n")


@pytest.fixture
def role(cluster: Any, tmp_path: Path) -> Iterator[Role]:
    made = Role(cluster, tmp_path)
    yield made
    made.run("DROP ROLE rotating")


@pytest.fixture
async def database(role: Role) -> Any:
    made = Database(role.url, password_file=str(role.file))
    yield made
    await made.close()


async def fresh(database: Database) -> None:
    """Use a new connection of the pool, and one outside of it."""
    await database.engine.dispose()
    async with database.transaction() as session:
        await session.execute(text("SELECT 1"))
    await (await database.alone("test")).close()


async def test_new_connections_work_before_and_after_the_role_changes(database: Database, role: Role) -> None:
    await fresh(database)
    role.write("two")
    await fresh(database)
    role.set("two")
    await fresh(database)
    role.write("three")
    role.set("three")
    await fresh(database)


async def test_open_transaction_outlives_the_change(database: Database, role: Role) -> None:
    async with database.transaction() as session:
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
        role.write("two")
        role.set("two")
        assert await session.scalar(text("SELECT pg_backend_pid()")) == pid


async def test_unknown_password_is_an_absent_database_until_the_file_has_it(database: Database, role: Role) -> None:
    await fresh(database)
    role.set("two")
    with pytest.raises(DatabaseAway):
        await fresh(database)
    role.write("two")
    await fresh(database)


async def test_manager_that_starts_in_between_waits_for_the_role(database: Database, role: Role) -> None:
    role.write("two")
    waiting = asyncio.create_task(database.wait_until_there(20))
    await asyncio.sleep(0.5)
    role.set("two")
    await waiting


def test_missing_password_file_is_told(tmp_path: Path) -> None:
    environ = {"DATABASE_URL": "postgresql://u@h/n", "DATABASE_PASSWORD_FILE": str(tmp_path / "none")}
    with pytest.raises(SettingsError, match="DATABASE_PASSWORD_FILE"):
        from_environment(environ)
    (tmp_path / "none").write_text("secret\n")
    assert from_environment(environ).database_password_file == str(tmp_path / "none")


async def test_an_error_of_the_database_shows_no_value_of_its_statement(manager: Any) -> None:
    """The log has such errors, and statements carry tokens of guests and user data."""
    with pytest.raises(DBAPIError) as error:
        async with manager.core.db.transaction() as session:
            await session.execute(text("SELECT 1 / 0, CAST(:token AS text)"), {"token": "of a guest"})
    assert "of a guest" not in str(error.value)
