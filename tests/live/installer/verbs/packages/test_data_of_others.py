"""With sh: the undo script finds the same foreign data as nqr, and removes none of it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from types import MappingProxyType

import pytest
from tests.unit.installer.verbs.packages.test_clusters_elsewhere import AWAY, SAID, SHOP

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


SHELLS = [shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]


def run(program: str, shell: Sequence[str] = ("sh",), places: Mapping[str, str] = MappingProxyType({})) -> str:
    functions = PRELUDE.partition("cd / || exit 1\n")[2]
    for place, here in places.items():
        assert place in functions
        functions = functions.replace(place, here)
    return subprocess.run([*shell, "-u", "-c", functions + program], capture_output=True, text=True, check=True).stdout


def elsewhere(folder: Path, packages: set[str], shell: list[str], program: str = "data_of_others") -> str:
    """Run with the configuration in `folder`/etc, and one package to remove."""
    patterns = quote(" ".join(clusters(packages, set()).values()))
    apt = "present_of() { echo x; }\nremove_with() { :; }\n"
    return run(f"{apt}clusters={patterns}\n{program} || :\n", shell, {"/etc/postgresql/": f"{folder}/etc/"})


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


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("where", SAID)
@DATA
def test_undo_script_finds_foreign_data_in_another_folder(
    tmp_path: Path, files: list[str], found: bool, where: str, shell: list[str]
) -> None:
    cluster, conf = tmp_path / "data pg/shop", tmp_path / "etc/15/shop"
    make(cluster, files)
    for name, text in SAID[where].items():
        path = conf / f"{name.replace('__', '/')}.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("/data/pg/shop", str(cluster)).replace(SHOP, str(conf)))
    assert elsewhere(tmp_path, {"postgresql-15"}, shell) == (f"{cluster}\n" if found else "")
    assert elsewhere(tmp_path, {"postgresql-16"}, shell) == ""
    assert elsewhere(tmp_path, {"postgresql-common"}, shell) == (f"{cluster}\n" if found else "")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("why", AWAY)
def test_undo_script_keeps_postgresql_while_data_cannot_be_seen(tmp_path: Path, why: str, shell: list[str]) -> None:
    conf = tmp_path / "etc/15/shop/postgresql.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(AWAY[why].replace("/data/pg", f"{tmp_path}/data"))
    said = elsewhere(tmp_path, {"postgresql-15"}, shell, "purge apt x 2>&1 && echo purged")
    assert f"PostgreSQL stays: the cluster of {conf} has no data in " in said and "purged" not in said
    assert elsewhere(tmp_path, {"postgresql-16"}, shell, "purge apt x 2>&1 && echo purged") == "purged\n"
    (tmp_path / "data/shop").mkdir(parents=True)
    (tmp_path / "data/shop/PG_VERSION").write_text("15")
    conf.write_text(f"data_directory = '{tmp_path}/data/shop'\n")
    assert elsewhere(tmp_path, {"postgresql-15"}, shell, "purge apt x 2>&1 && echo purged") == "purged\n"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "table", ["/dev/sdb1 {} ext4 defaults 0 2", "/dev/sdb1 {}/ ext4", "#/dev/sdb1 {} ext4", "/dev/sda1 / ext4"]
)
def test_undo_script_knows_a_usual_folder_whose_disk_is_not_mounted(tmp_path: Path, table: str, shell: list[str]) -> None:
    fstab, conf = tmp_path / "fstab", tmp_path / "etc/15/main/postgresql.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(f"data_directory = '{tmp_path}/postgresql/15/main'\n")
    fstab.write_text(f"tmpfs /nowhere tmpfs\n{table.format(tmp_path / 'postgresql')}\n")
    places = {"/etc/postgresql/": f"{tmp_path}/etc/", "/var/lib/postgresql": f"{tmp_path}/postgresql", "/etc/fstab": str(fstab)}
    program = f"cluster_of {conf}\nif away_cluster; then echo away; fi\n"
    assert run(program, shell, places) == ("away\n" if table.startswith("/dev/sdb1") else "")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sdb1 {tmp_path}/postgresql ext4 rw 0 0\n")
    assert run(program, shell, {**places, "/proc/self/mounts": str(mounts)}) == ""


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("unit", "folder"), [("Environment=PGDATA=", "data pg"), ('Environment="A=b" "PGDATA=', "data")])
def test_undo_script_finds_red_hats_data_in_another_folder(tmp_path: Path, unit: str, folder: str, shell: list[str]) -> None:
    data = tmp_path / folder.partition(" ")[0]
    file = tmp_path / "postgresql.service.d/x.conf"
    file.parent.mkdir()
    file.write_text(f"[Service]\nEnvironment=PGDATA=/nowhere\n{unit}{data}{chr(34) if chr(34) in unit else ''}\n")
    places = {"/etc/systemd/system": str(tmp_path), "[ -d /var/lib/pgsql ]": "true"}
    program = "clusters=/var/lib/pgsql/data\ndata_of_others\nclusters_of its_data_is_away\n"
    assert run(program, shell, places) == f"the cluster of {data}/postgresql.conf has no data in {data} now\n"
    make(data, ["base/16390/1"])
    assert run(program, shell, places) == f"{data}\n"


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
