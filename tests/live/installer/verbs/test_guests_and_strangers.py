"""What a guest of a NAT network and a machine beyond it cannot do to the host together, and that machine alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.machine_scripts.calling import run_script
from tests.unit.installer.phases.test_rendered_files import rendered

NEEDS = ("unshare", "ip", "iptables", "mount")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    lacking = [program for program in NEEDS if shutil.which(program) is None]
    if os.geteuid() != 0 or lacking:
        pytest.skip(f"needs root and {' '.join(lacking or NEEDS)}")
    path = tmp_path / "nqrust-network"
    path.write_text(rendered("production")["/opt/nqrust-microvm/libexec/nqrust-network"].split("---\n", 1)[1])
    path.chmod(0o755)
    return path


def seen(script: Path, what: str) -> Any:
    return run_script("guests_and_strangers.py", script, what, namespaces=("net", "mount"), seconds=60)


def test_a_guest_takes_no_connection_that_is_for_a_service_of_its_host(script: Path) -> None:
    """It has the host's address. A machine that it sends a packet to from the service's port would get an answer there."""
    found = seen(script, "services")
    ports = ("udp 500", "udp 51820", "tcp 19090", "tcp 50000")
    assert found["services"] == dict.fromkeys(ports, True)
    assert found["services without the ranges"] == dict.fromkeys(ports, False), "the test can see a hole"
    assert 200 <= found["of 300 to one port"] <= 240 and found["of the other guest"], "no guest has all ports"
