"""The version stands in four places; all name the same one."""

from __future__ import annotations

import re
import subprocess

import pytest
from tests.places import ROOT

import nqrust


def named(path: str, pattern: str) -> str:
    """What `pattern` finds first in a file of the repository."""
    found = re.search(pattern, (ROOT / path).read_text(), re.MULTILINE)
    assert found is not None, f"{path} names no version"
    return found[1]


def test_every_file_names_the_same_version() -> None:
    line = r'^version = "(.+)"$'
    places = {
        "pyproject.toml": named("pyproject.toml", line),
        "guest-agent/Cargo.toml": named("guest-agent/Cargo.toml", line),
        "guest-agent/Cargo.lock": named("guest-agent/Cargo.lock", r'^name = "guest-agent"\nversion = "(.+)"$'),
        "CHANGELOG.md": named("CHANGELOG.md", r"^## (\S+) \(\d"),
    }
    assert places == dict.fromkeys(places, nqrust.__version__)


def test_releases_name_commits_that_call_themselves_so() -> None:
    lines = [line.split() for line in (ROOT / "RELEASES").read_text().splitlines() if not line.startswith("#")]
    dated = re.findall(r"^## (\S+) \(\d", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert lines and {version for version, _ in lines} <= set(dated)
    for version, commit in lines:
        shown = subprocess.run(
            ["git", "-C", ROOT, "show", f"{commit}:pyproject.toml"], capture_output=True, text=True, check=False
        )
        if shown.returncode:
            pytest.skip(f"this clone does not have the commit of {version}")
        assert f'\nversion = "{version}"\n' in shown.stdout
