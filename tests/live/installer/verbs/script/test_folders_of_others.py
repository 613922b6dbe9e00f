"""With nqr and with sh: an undo in a folder that another user than root can change removes nothing outside of it."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from shlex import quote

import pytest

from nqrust.host.errors import HostError
from nqrust.host.local import LocalHost
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Outcome, UndoContext
from nqrust.installer.verbs.file.undo import undo_contents, undo_directory, undo_file, undo_mode
from nqrust.installer.verbs.packages import traces
from nqrust.installer.verbs.packages.apt import dead_clusters
from nqrust.installer.verbs.registry import VERBS, revert
from nqrust.installer.verbs.script.prelude import PRELUDE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has more rights than the folder's user")

NOBODY = 65534
WAYS = pytest.mark.parametrize("way", ["nqr", "sh"])


def sh(program: str) -> str:
    text = PRELUDE.partition("cd / || exit 1\n")[2] + program + '\necho "failed: $failed"'
    done = subprocess.run(["sh"], input=text, capture_output=True, text=True, check=True, cwd="/", timeout=60)
    return done.stdout + done.stderr


def context() -> UndoContext:
    return UndoContext(LocalHost(), Originals(LocalHost(), "/nonexistent"))


def undo(way: str, record: Undo) -> Outcome | str:
    """Revert a record and return its outcome, or the error's text."""
    if way == "sh":
        return sh("\n".join(VERBS.script(context(), record)))
    try:
        return revert(context(), record)
    except HostError as error:
        return str(error)


def their(path: Path) -> Path:
    """Make a folder, and give all of it to another user."""
    path.mkdir(exist_ok=True)
    subprocess.run(["chown", "-Rh", str(NOBODY), path], check=True)
    return path


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    for above in tmp_path.parents:
        if above.stat().st_mode & 0o005 != 0o005:
            above.chmod(above.stat().st_mode | 0o011)
    (tmp_path / "precious/tree/below").mkdir(parents=True)
    (tmp_path / "precious/empty").mkdir()
    (tmp_path / "precious/file").write_text("x")
    return tmp_path / "precious"


def state(path: Path) -> list[tuple[str, int, int]]:
    return [(str(at), os.lstat(at).st_mode, os.lstat(at).st_uid) for at in [path, *sorted(path.rglob("*"))]]


RECORDS: list[Callable[[str], Undo]] = [
    lambda way: undo_directory(f"{way}/tree", tree=True),
    lambda way: undo_directory(f"{way}/empty"),
    lambda way: undo_file(f"{way}/file", ours_sha256=None),
    lambda way: undo_file(f"{way}/file", ours_sha256="0" * 64),
    lambda way: undo_mode(f"{way}/file", 0o666, "nobody", str(NOBODY)),
    lambda way: undo_mode(f"{way}/tree", 0o777, "nobody", str(NOBODY)),
    lambda way: undo_contents(f"{way}/tree"),
]


@WAYS
@pytest.mark.parametrize(
    "record", RECORDS, ids=["tree", "folder", "file", "changed file", "mode", "mode of a folder", "contents"]
)
def test_a_link_on_the_way_leads_nowhere(precious: Path, way: str, record: Callable[[str], Undo]) -> None:
    folder, before = their(precious.parent / "theirs"), state(precious)
    (folder / "way").symlink_to(precious)
    their(folder)
    said = undo(way, record(f"{folder}/way"))
    assert state(precious) == before
    assert isinstance(said, Kept) or re.search("another user than root|Left on purpose", str(said)), said


@WAYS
@pytest.mark.parametrize("whose", ["root's", "theirs"])
def test_a_data_folder_that_is_a_link_is_emptied_with_the_rights_of_who_can_change_it(
    precious: Path, way: str, whose: str
) -> None:
    folder, real, before = their(precious.parent / "pgsql"), precious.parent / "real", state(precious)
    (real / "base/1").mkdir(parents=True)
    (real / "base/1/1247").write_text("x")
    (real / ".hidden").write_text("x")
    (real / "out").symlink_to(precious)
    if whose == "theirs":
        their(real)
    (folder / "data").symlink_to(real)
    said = undo(way, undo_contents(f"{folder}/data"))
    assert bool(os.listdir(real)) == (whose == "root's"), said
    assert ("what is behind it stays" in str(said)) == (whose == "root's")
    assert state(precious) == before and real.exists()


@WAYS
def test_a_link_that_root_alone_can_change_is_followed(precious: Path, way: str) -> None:
    (precious.parent / "data").symlink_to(precious / "tree")
    undo(way, undo_contents(f"{precious.parent}/data"))
    assert os.listdir(precious) and not os.listdir(precious / "tree")


@WAYS
def test_a_link_that_a_group_can_change_is_kept(precious: Path, way: str) -> None:
    folder = their(precious.parent / "pgsql")
    folder.chmod(0o775)
    (folder / "data").symlink_to(their(precious.parent / "real"))
    (precious.parent / "real/file").write_text("x")
    said = undo(way, undo_contents(f"{folder}/data"))
    assert (precious.parent / "real/file").exists() and "other users can change" in str(said)


@WAYS
def test_a_link_of_a_number_without_an_account_is_kept(precious: Path, way: str) -> None:
    folder = precious.parent / "pgsql"
    folder.mkdir()
    os.chown(folder, 54321, 54321)
    (folder / "data").symlink_to(precious)
    before = state(precious)
    assert "what is behind it stays" in str(undo(way, undo_contents(f"{folder}/data")))
    assert state(precious) == before


def test_the_script_gives_root_s_terminal_to_nobody() -> None:
    """What another user's program types there, root's shell runs (TIOCSTI)."""
    lines = [line.strip() for line in PRELUDE.splitlines() if re.search(r"\b(runuser|setpriv|su) -", line)]
    assert lines and all(line.startswith("setsid -w ") or "$(" in line for line in lines), lines


def test_a_number_of_a_server_that_leads_elsewhere_holds_nobody(tmp_path: Path) -> None:
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn/PG_VERSION").write_text("15\n")
    os.mkfifo(tmp_path / "comm")
    (tmp_path / "torn/postmaster.pid").write_text(f"..{tmp_path}\n")
    assert "is torn" in sh(f"if torn_cluster {quote(str(tmp_path / 'torn'))}; then echo is torn; fi")


@WAYS
def test_what_a_package_script_made_behind_a_link_of_another_user_is_kept(precious: Path, way: str) -> None:
    folder = their(precious.parent / "pg")
    (folder / "15").symlink_to(precious)
    before = state(precious)
    made(way, folder / "15/empty")
    assert state(precious) == before


@WAYS
def test_what_is_no_longer_a_folder_is_not_emptied(tmp_path: Path, way: str) -> None:
    (tmp_path / "data").write_text("x")
    assert "no longer a directory" in str(undo(way, undo_contents(f"{tmp_path}/data"))) and (tmp_path / "data").exists()


@WAYS
def test_dead_clusters_are_looked_for_in_real_folders(precious: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = precious.parent / "postgresql"
    (folder / "99/main").mkdir(parents=True)
    (folder / "99/main/postgresql.conf").write_text("data_directory = '/var/lib/postgresql/99/main'\n")
    (folder / "98").symlink_to(precious)
    (precious / "tree/postgresql.conf").write_text("")
    their(folder)
    before = state(precious)
    if way == "sh":
        sh(dead_clusters.FUNCTIONS.replace("/etc/postgresql", str(folder)) + "forget_dead_clusters postgresql-common\n")
    else:
        monkeypatch.setattr(dead_clusters, "_CONFIGURATIONS", f"{folder}/*/*/postgresql.conf")
        dead_clusters.forget(LocalHost(), ["postgresql-common"])
    assert state(precious) == before and not (folder / "99/main").exists() and (folder / "98").is_symlink()


def made(way: str, path: Path) -> None:
    if way == "sh":
        sh(f"owned() {{ return 1; }}\nmade_directory {quote(str(path))}")
    else:
        traces.remove(LocalHost(), {"paths": {str(path): ["directory"]}, "users": [], "groups": []}, frozenset())


@WAYS
def test_names_with_line_breaks_are_names(precious: Path, way: str) -> None:
    """A torn cluster `x`, line break, path of a folder outside."""
    folder = precious.parent / "lib"
    torn = Path(f"{folder}/x\n{precious}")
    torn.mkdir(parents=True)
    (torn / "PG_VERSION").write_text("15\n")
    (precious / "PG_VERSION").write_text("15\n")
    their(folder)
    before = state(precious)
    made(way, folder)
    assert state(precious) == before and not folder.exists()


@WAYS
def test_links_below_a_folder_of_a_package_script_are_not_followed(precious: Path, way: str) -> None:
    folder = precious.parent / "lib"
    (folder / "a/empty").mkdir(parents=True)
    (folder / "a/link").symlink_to(precious)
    (precious / "PG_VERSION").write_text("15\n")
    their(folder)
    before = state(precious)
    made(way, folder)
    assert state(precious) == before and [*folder.rglob("*")] == [folder / "a", folder / "a/link"]


@WAYS
def test_a_cluster_with_data_of_users_stays_whole(tmp_path: Path, way: str) -> None:
    """Each folder of a database has a PG_VERSION too, and a server does not start without its empty folders."""
    cluster = tmp_path / "lib/elsewhere/main"
    for database in ("1", "16390"):
        (cluster / "base" / database).mkdir(parents=True)
        (cluster / "base" / database / "PG_VERSION").write_text("15\n")
    (cluster / "PG_VERSION").write_text("15\n")
    (cluster / "pg_notify").mkdir()
    before = state(cluster)
    made(way, tmp_path / "lib")
    assert state(cluster) == before


def test_a_file_that_is_put_back_goes_through_no_planted_link(precious: Path) -> None:
    folder = their(precious.parent / "theirs")
    for name in ("conf.nqr-new", ".conf.nqr-new"):
        (folder / name).symlink_to(precious / "file")
    text = base64.b64encode(b"original\n").decode()
    said = sh(f"restore_file {folder}/conf '' {'0' * 64} 0640 nobody 0 <<'END'\n{text}\nEND")
    assert (precious / "file").read_text() == "x" and (folder / "conf").read_text() == "original\n", said
    assert (folder / "conf").stat().st_mode & 0o7777 == 0o640 and (folder / "conf").stat().st_uid == NOBODY
    assert "failed: 0" in said and not [*Path(os.environ.get("TMPDIR", "/tmp")).glob("tmp.*/conf")]


@pytest.mark.skipif(shutil.which("mount") is None, reason="mount is not installed")
def test_the_script_removes_no_tree_with_a_mount_in_it(tmp_path: Path) -> None:
    inner = tmp_path / "a tree/inner"
    inner.mkdir(parents=True)
    if subprocess.run(["mount", "--bind", tmp_path, inner], capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        said = sh(f"remove_tree {quote(str(tmp_path / 'a tree'))}\nremove_contents {quote(str(tmp_path / 'a tree'))}")
    finally:
        subprocess.run(["umount", inner], check=True)
    assert "something is mounted there" in said and "failed: 2" in said and inner.exists()


@WAYS
def test_in_a_real_folder_of_another_user_each_record_is_undone(precious: Path, way: str) -> None:
    folder = precious.parent / "theirs"
    (folder / "tree/below").mkdir(parents=True)
    (folder / "empty").mkdir()
    for name in ("file", "edited"):
        (folder / name).write_text("x")
    their(folder)
    for record in (
        undo_mode(f"{folder}/tree", 0o711, "root", "root"),
        undo_contents(f"{folder}/tree"),
        undo_directory(f"{folder}/empty"),
        undo_file(f"{folder}/file", ours_sha256=None),
        undo_file(f"{folder}/edited", ours_sha256="0" * 64),
    ):
        undo(way, record)
    assert sorted(os.listdir(folder)) == ["edited.nqr-kept", "tree"] and not os.listdir(folder / "tree")
    assert (folder / "tree").stat().st_mode & 0o7777 == 0o711 and (folder / "tree").stat().st_uid == 0
    undo(way, undo_directory(f"{folder}/tree", tree=True))
    assert os.listdir(folder) == ["edited.nqr-kept"]
