"""The version stands in four places; all name the same one."""

from __future__ import annotations

import re

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
