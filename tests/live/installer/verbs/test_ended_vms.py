"""An uninstall ends all VMs, also those of a jailed VMM, and no process of anybody else."""

from __future__ import annotations

import os
from typing import Any

import pytest
from tests.machine_scripts.calling import run_script

pytestmark = pytest.mark.hosts


@pytest.fixture(scope="module")
def left() -> Any:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    return run_script("ended_vms.py", namespaces=("net", "mount", "pid", "fork", "kill-child"), seconds=200)


@pytest.mark.parametrize("form", ["python", "shell"])
def test_processes_of_vms_end_and_others_stay(left: Any, form: str) -> None:
    assert left["vms"][form] == ["killer", "other", "pretender", "root"]


@pytest.mark.parametrize("form", ["python", "shell"])
def test_only_the_supervisord_of_the_installation_ends(left: Any, form: str) -> None:
    """Any user of the host can give a program that command line, and keep an uninstall waiting for its end."""
    assert left["supervisord"][form] == ["another", "editor", "pretender"]
