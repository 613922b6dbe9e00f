"""With sh: the undo script finds the same foreign data as nqr, and removes none of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from shlex import quote

import pytest

from nqrust.installer.verbs.packages.apt.removing import clusters
from nqrust.installer.verbs.packages.shell import FUNCTIONS
from nqrust.installer.verbs.script.prelude import PRELUDE

DATA = pytest.mark.parametrize(
    ("files", "found"),
    [
        (["base/1/1259", "base/4/1259", "base/5/2619_fsm", "base/5/13455"], False),
        (["base/5/1259", "base/16390/1259"], True),
        (["base/5/1259", "base/5/16384_fsm"], True),
        (["base/5/1259", "pg_tblspc/16385"], True),
    ],
    ids=["system tables", "a database", "a table in the database postgres", "a tablespace"],
)


def make(cluster: Path, files: list[str]) -> None:
    for name in ("PG_VERSION", *files):
        (cluster / name).parent.mkdir(parents=True, exist_ok=True)
        (cluster / name).write_text("")


def run(program: str) -> str:
    functions = PRELUDE.partition("cd / || exit 1\n")[2]
    return subprocess.run(["sh", "-c", functions + program], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("packages", "goes"),
    [
        ({"postgresql-15"}, True),
        ({"postgresql-common"}, True),
        ({"postgresql-common", "postgresql-15"}, True),
        ({"postgresql", "postgresql-client-15", "postgresql-client-common"}, False),
        ({"postgresql-16"}, False),
    ],
)
@DATA
def test_undo_script_finds_foreign_data_in_a_cluster(
    tmp_path: Path, files: list[str], found: bool, packages: set[str], goes: bool
) -> None:
    cluster = tmp_path / "postgresql/15/main"
    make(cluster, files)
    patterns = " ".join(clusters(packages, set()).values()).replace("/var/lib/", f"{tmp_path}/")
    assert "data_of_others()" in FUNCTIONS
    assert run(f"clusters={quote(patterns)}\ndata_of_others\n") == (f"{cluster}\n" if found and goes else "")


@pytest.mark.parametrize("running", [False, True], ids=["nobody uses it", "a server runs on it"])
@DATA
def test_undo_script_removes_a_cluster_that_a_package_script_left_torn(
    tmp_path: Path, files: list[str], found: bool, running: bool
) -> None:
    cluster = tmp_path / "postgresql/15/main"
    make(cluster, files)
    program = shutil.copy("/bin/sleep", tmp_path / "postgres")
    with subprocess.Popen([program, "60"]) as server:
        (cluster / "postmaster.pid").write_text(f"{server.pid if running else 2**22}\n{cluster}\n")
        try:
            run(f"owned() {{ return 1; }}\nmade_directory {tmp_path}/postgresql\n")
        finally:
            server.kill()
    assert (tmp_path / "postgresql").exists() == (found or running)
    assert not (found or running) or all((cluster / name).exists() for name in ("PG_VERSION", "postmaster.pid", *files))


@pytest.mark.parametrize("removal", ["remove_contents", "remove_tree"])
@DATA
def test_undo_script_keeps_a_cluster_with_foreign_data(tmp_path: Path, files: list[str], found: bool, removal: str) -> None:
    cluster = tmp_path / "pgsql/data"
    make(cluster, files)
    cluster.chmod(0o700)
    program = f"{removal} {cluster} 2>&1\nrestore_mode {cluster} 0755 {cluster.owner()} {cluster.group()}\n"
    said = run(program + f'used_cluster {cluster} || echo gone\necho "$failed"\n')
    if found:
        assert f"PostgreSQL stays: {cluster} holds data that nqr did not create" in said and said.endswith("\n1\n")
        assert all((cluster / name).exists() for name in ("PG_VERSION", *files)) and cluster.stat().st_mode & 0o777 == 0o700
    else:
        assert said == "gone\n0\n" and cluster.exists() == (removal == "remove_contents")
        assert not cluster.exists() or (not any(cluster.iterdir()) and cluster.stat().st_mode & 0o777 == 0o755)
