"""The commands of docs/operate/backup.md, with a real PostgreSQL: what a dump can do to the server that restores it."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from tests.places import ROOT

from nqrust.manager.store.migrate import migrate

NAME, PASSWORD = "restored", secrets.token_hex(8)
GUIDE = (ROOT / "docs/operate/backup.md").read_text()


def options() -> list[str]:
    """Return the options of the guide that say how to restore, without those that say where and as whom."""
    (found,) = re.findall(r"^ +pg_restore (.*) -h 127.0.0.1 -U nexus -d nexus < nexus.dump$", GUIDE, re.MULTILINE)
    return str(found).split()


@pytest.fixture
def owned(cluster: Any) -> Iterator[str]:
    """The URL of a database with the manager's tables, which belongs to a role without privileges, as on a host."""
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {NAME} LOGIN PASSWORD '{PASSWORD}'")
        admin.execute(f"CREATE DATABASE {NAME} OWNER {NAME} TEMPLATE template0")
    with psycopg.connect(cluster.url(NAME), autocommit=True) as admin:
        admin.execute(f"GRANT ALL ON SCHEMA public TO {NAME}; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    url = cluster.url(NAME).replace("nexus:", f"{NAME}:").replace(cluster.password, PASSWORD)
    migrate(url.replace("postgresql://", "postgresql+psycopg://"))
    yield url
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {NAME} WITH (FORCE)")
        admin.execute(f"DROP ROLE {NAME}")


def run(url: str, program: str, *options: str, **files: Any) -> subprocess.CompletedProcess[str]:
    login = urlsplit(url)
    environment = {
        "PATH": os.environ["PATH"], "LC_ALL": "C", "PGHOST": str(login.hostname), "PGPORT": str(login.port),
        "PGUSER": str(login.username), "PGPASSWORD": str(login.password), "PGDATABASE": login.path[1:],
    }  # fmt: skip
    return subprocess.run([program, *options], env=environment, stderr=subprocess.PIPE, text=True, timeout=60, **files)


def dump(url: str, place: Path) -> None:
    with place.open("wb") as file:
        assert run(url, "pg_dump", "-Fc", stdout=file).returncode == 0


HOSTILE = """
CREATE FUNCTION takes(text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    BEGIN RESET ROLE; ALTER ROLE restored SUPERUSER; EXCEPTION WHEN OTHERS THEN NULL; END;
    RETURN true;
END $$;
CREATE TABLE traps (what text CHECK (public.takes(what)));
INSERT INTO traps VALUES ('x');
"""


def is_superuser(cluster: Any) -> bool:
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as admin:
        (found,) = admin.execute(f"SELECT rolsuper FROM pg_roles WHERE rolname = '{NAME}'").fetchall()
        admin.execute(f"ALTER ROLE {NAME} NOSUPERUSER")
    return bool(found[0])


def test_a_restore_brings_the_records_back_and_runs_with_the_managers_rights(cluster: Any, owned: str, tmp_path: Path) -> None:
    with psycopg.connect(owned, autocommit=True) as session:
        session.execute("INSERT INTO images (id, name, path, managed, state, error, manifest, checked, created_at)"
                        " VALUES ('i', 'tiny', '/x', true, 'ready', '', '{}', '{}', now())")  # fmt: skip
        session.execute(HOSTILE)
    dump(cluster.url(NAME), tmp_path / "dump")
    with psycopg.connect(owned, autocommit=True) as session:
        session.execute("DELETE FROM images; DELETE FROM traps")
    with (tmp_path / "dump").open("rb") as file:
        restored = run(owned, "pg_restore", *options(), "-d", NAME, stdin=file)
    assert (restored.returncode, restored.stderr) == (0, "")
    assert not is_superuser(cluster)
    with psycopg.connect(owned) as session:
        assert session.execute("SELECT name FROM images").fetchall() == [("tiny",)]
        assert session.execute("SELECT count(*) FROM traps").fetchall() == [(1,)]
        owners = session.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert owners == [(NAME,)]


@pytest.mark.parametrize("more", [[], [f"--role={NAME}"]])
def test_a_restore_as_superuser_runs_what_the_manager_left_there(
    cluster: Any, owned: str, tmp_path: Path, more: list[str]
) -> None:
    """So the guide restores as the manager's own role. The option --role does not help."""
    with psycopg.connect(owned, autocommit=True) as session:
        session.execute(HOSTILE)
    dump(cluster.url(NAME), tmp_path / "dump")
    with (tmp_path / "dump").open("rb") as file:
        run(cluster.url(NAME), "pg_restore", "--clean", "--if-exists", *more, "-d", NAME, stdin=file)
    assert is_superuser(cluster)
