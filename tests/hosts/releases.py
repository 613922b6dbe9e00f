"""Earlier releases on a test host: clones of their commits."""

from __future__ import annotations

import pytest

from tests.hosts.machine.outside import OutsideError, outside
from tests.places import ROOT

OLD = "/root/old clone/nqrust"


def commit_of(version: str) -> str:
    """The commit that the file RELEASES names. Skips where the clone does not have it (a shallow one)."""
    named = dict(line.split() for line in (ROOT / "RELEASES").read_text().splitlines() if line and not line.startswith("#"))
    commit = named[version]
    try:
        outside("git", "-C", str(ROOT), "cat-file", "-e", f"{commit}^{{commit}}")
    except OutsideError:
        pytest.skip(f"this clone does not have the commit of {version}")
    return commit
