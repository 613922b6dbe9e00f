"""The entries of the locks that each Python needs, whichever Python asks."""

from __future__ import annotations

import pytest
from scripts.packages import wheels
from tests.places import ROOT

LOCK = """\
typer==0.29.1 ; python_full_version < '3.11' \\
    --hash=sha256:aaaa
typer==0.29.2 ; python_full_version >= '3.11' \\
    --hash=sha256:bbbb \\
    --hash=sha256:cccc
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:dddd
psycopg[binary]==3.3.9 \\
    --hash=sha256:eeee
"""


@pytest.mark.parametrize(("python", "typer"), [("3.10", "typer==0.29.1"), ("3.11", "typer==0.29.2"), ("3.14", "typer==0.29.2")])
def test_entries_follow_the_markers_of_the_named_python(python: str, typer: str) -> None:
    assert list(wheels.locked(LOCK, python)) == [typer, "psycopg[binary]==3.3.9"]


def test_entries_keep_their_hashes_and_lose_their_marker() -> None:
    lines = wheels.locked(LOCK, "3.12")["typer==0.29.2"]
    assert lines == "typer==0.29.2 \\\n    --hash=sha256:bbbb \\\n    --hash=sha256:cccc\n"


@pytest.mark.parametrize("python", wheels.PYTHONS)
def test_every_entry_of_the_locks_is_read(python: str) -> None:
    """Each name of the real locks that this Python needs occurs once, with a hash."""
    entries = wheels.pins(ROOT / "requirements", python)
    names = [pin.partition("==")[0].partition("[")[0] for pin in entries]
    assert len(names) == len(set(names)) and {"pip", "hatchling", "pydantic-core", "typer", "cryptography"} <= set(names)
    assert all("--hash=sha256:" in lines for lines in entries.values())
