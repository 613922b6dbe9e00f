"""With real programs: dropping role and database: from a server that runs, without a server from a cluster that does not, never in vain."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.verbs.postgres.test_undo_postgres import DATA, RECORD, SERVER, debian

from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.postgres import undo as postgres
from nqrust.installer.verbs.postgres.undo import undo_database, undo_role
from nqrust.installer.verbs.script import whole as script
from nqrust.installer.verbs.script.prelude import PRELUDE


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("sh") is None, reason="it looks up root in /etc/passwd")
@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize(
    ("undo", "code", "failed"),
    [
        (undo_role(RECORD, "nexus"), "2BP01", 0),
        (undo_role(RECORD, "nexus"), "42501", 1),
        (undo_database(RECORD, "nexus"), "2BP01", 1),
    ],
    ids=["a role that owns more", "a role that may not be dropped", "a database"],
)
def test_undo_script_keeps_a_role_that_owns_more_and_continues(
    tmp_path: Path, online: bool, undo: Undo, code: str, failed: int
) -> None:
    """Run again, it would meet the same objects again."""
    (call,) = script.lines_of(UndoContext(debian(online=online), Originals(FakeHost(), "/var/lib/o")), undo)
    data = tmp_path / "data"
    data.mkdir()
    (data / "PG_VERSION").write_text("15\n")
    refuse = f'printf "FATAL:  {code}: Rolle »nexus« kann nicht gelöscht werden\\n" >&2; exit 1'
    said_only_when_asked = f'case "$*" in *verbos*) {refuse} ;; *) exit 1 ;; esac'
    programs = {
        "runuser": 'shift 3; exec "$@"',
        "psql": f'case "$*" in *"SELECT 1") exit {int(not online)} ;; esac; {said_only_when_asked}',
        "postgres": said_only_when_asked,
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    call = call.replace("sql postgres ", "sql root ", 1).replace(DATA, str(data)).replace(SERVER, f"{tmp_path}/postgres")
    text = PRELUDE.partition("cd / || exit 1\n")[2] + f'{call}\necho "failed: $failed$missed"\n'
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", text], env=path, check=True, capture_output=True, text=True)
    assert f"failed: {failed}{'1' if failed else ''}\n" in done.stdout, done.stderr
    assert (f"Left on purpose: {postgres.role_stays(undo.args)}." in done.stdout) == (not failed)
    assert (code in done.stderr) == bool(failed), "what PostgreSQL says of a failure is shown"


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("sh") is None, reason="it looks up root in /etc/passwd")
@pytest.mark.parametrize(("server", "wanted"), [("runs", "psql"), ("stopped", "single"), ("no programs", "kept"), ("gone", "")])
def test_undo_script_handles_each_state_of_the_server(tmp_path: Path, server: str, wanted: str) -> None:
    programs, data = tmp_path / "bin", tmp_path / "data"
    programs.mkdir()
    data.mkdir()

    def program(name: str, body: str) -> None:
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)

    program("runuser", 'shift 3; exec "$@"')
    program("psql", f'[ {server!r} = runs ] && echo "psql $*" >>"{tmp_path}/told"')
    if server not in ("no programs", "gone"):
        program("postgres", f'{{ echo "single $*"; cat; }} >>"{tmp_path}/told"')
    if server != "gone":
        (data / "PG_VERSION").write_text("15\n")
    sql = 'DROP DATABASE IF EXISTS "nexus" WITH (FORCE);'
    call = f"sql root '{sql}' /run/x 5432 {programs}/postgres /etc/x/postgresql.conf {data} ''"
    text = PRELUDE.partition("cd / || exit 1\n")[2] + f'{call}\necho "failed: $failed$missed"\n'
    path = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", text], env=path, check=True, capture_output=True, text=True)
    assert ("failed: 11\n" if wanted == "kept" else "failed: 0\n") in done.stdout, done.stdout + done.stderr
    told = (tmp_path / "told").read_text() if (tmp_path / "told").exists() else ""
    assert (sql in told) == (wanted in ("psql", "single"))
    assert told.startswith(wanted) if wanted in ("psql", "single") else told == ""
    assert ("programs of PostgreSQL are gone" in done.stderr) == (wanted == "kept")
    if wanted == "single":
        assert f"-D {data} -c config_file=/etc/x/postgresql.conf" in told


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("sh") is None, reason="it looks up root in /etc/passwd")
@pytest.mark.parametrize("state", ["moved", "away", "removed"])
@pytest.mark.parametrize("layout", ["debian", "redhat"])
def test_undo_script_follows_a_cluster_that_moved_since_it_was_written(tmp_path: Path, layout: str, state: str) -> None:
    conf, now, unit = tmp_path / "15/main/postgresql.conf", tmp_path / "larger", tmp_path / "postgresql.service"
    before = {"debian": "/var/lib/postgresql/15/main", "redhat": "/var/lib/pgsql/data"}[layout]
    conf.parent.mkdir(parents=True)
    if layout == "debian":
        conf.write_text(f"data_directory = '{before if state == 'removed' else now}'\n")
    else:
        unit.write_text("[Service]\n" + ("" if state == "removed" else f"Environment=PGDATA={now}\n"))
    if state == "moved":
        now.mkdir()
        (now / "PG_VERSION").write_text("15\n")
    programs = {"runuser": 'shift 3; exec "$@"', "psql": "exit 2", "postgres": f'{{ echo "$*"; cat; }} >>"{tmp_path}/told"'}
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    call = f"sql root 'DROP DATABASE x;' /run/x 5432 {tmp_path}/postgres '{conf if layout == 'debian' else ''}' {before} ''"
    functions = PRELUDE.partition("cd / || exit 1\n")[2]
    functions = functions.replace("/etc/systemd/system", str(tmp_path)).replace("[ -d /var/lib/pgsql ]", "true")
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    text = functions + f'{call}\necho "failed: $failed$missed"\n'
    done = subprocess.run(["sh", "-u", "-c", text], env=path, check=True, capture_output=True, text=True)
    told = (tmp_path / "told").read_text() if (tmp_path / "told").exists() else ""
    assert ("DROP DATABASE x;" in told and f"--single -D {now} " in told) == (state == "moved")
    assert ("failed: 11\n" if state == "away" else "failed: 0\n") in done.stdout, done.stdout + done.stderr
    assert (f"has no data in {now} now. Mount its data or remove that cluster, then run this again" in done.stderr) == (
        state == "away"
    )
