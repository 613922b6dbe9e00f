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
