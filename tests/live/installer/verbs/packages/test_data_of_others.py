"""With sh: the undo script sees the same data of others as nqr does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nqrust.installer.verbs.packages.shell import FUNCTIONS


@pytest.mark.parametrize(
    ("packages", "goes"),
    [
        ("postgresql-15", True),
        ("postgresql-common", True),
        ("postgresql postgresql-client-15 postgresql-client-common", False),
        ("postgresql-16", False),
    ],
)
@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["1/1259", "4/1259", "5/2619_fsm", "5/13455"], False),
        (["5/1259", "16390/1259"], True),
        (["5/1259", "5/16384_fsm"], True),
    ],
    ids=["system tables", "a database", "a table in the database postgres"],
)
def test_the_script_sees_data_of_others(tmp_path: Path, files: list[str], found: bool, packages: str, goes: bool) -> None:
    cluster = tmp_path / "postgresql/15/main"
    for name in ("PG_VERSION", *(f"base/{file}" for file in files)):
        (cluster / name).parent.mkdir(parents=True, exist_ok=True)
        (cluster / name).write_text("")
    function = FUNCTIONS[FUNCTIONS.index("data_of_others()") : FUNCTIONS.index("configured=''")]
    program = function.replace("/var/lib/", f"{tmp_path}/") + f"data_of_others {packages}\n"
    done = subprocess.run(["sh", "-eu", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == (f"{cluster}\n" if found and goes else "")
