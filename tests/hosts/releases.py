"""Earlier releases on a test host: clones of their commits, and which of them its `nqr` is of."""

from __future__ import annotations

import json

import pytest

from tests.hosts.machine import Machine
from tests.hosts.machine.outside import OutsideError, outside
from tests.places import ROOT

OLD = "/root/old clone/nqrust"


_MARKER = "/opt/nqrust-microvm/installer/venv/.nqrust-environment.json"


def program_of(host: Machine) -> str:
    """The release whose `nqr` the host has, with its digest. `nqr version` says the number alone."""
    return str(json.loads(host.read(_MARKER))["version"])


def commit_of(version: str) -> str:
    """The commit that the file RELEASES names. Skips where the clone does not have it (a shallow one)."""
    named = dict(line.split() for line in (ROOT / "RELEASES").read_text().splitlines() if line and not line.startswith("#"))
    commit = named[version]
    try:
        outside("git", "-C", str(ROOT), "cat-file", "-e", f"{commit}^{{commit}}")
    except OutsideError:
        pytest.skip(f"this clone does not have the commit of {version}")
    return commit
