"""What a guest of a NAT network and a machine beyond it cannot do to the host together, and that machine alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.machine_scripts.calling import run_script
from tests.unit.installer.phases.test_rendered_files import rendered

from nqrust.agent.network import forwards

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


def test_a_machine_beyond_fills_no_table_of_the_host_through_a_forward(script: Path) -> None:
    """It has any number of ports, and the VM answers. The host would remember such a connection for five days."""
    found = seen(script, "forwards")
    assert found.pop("drawn") == found.pop("put back") == [True, False] and found.pop("lacking") == "", "drawn once"
    assert forwards.AT_ONCE <= found.pop("a second") <= forwards.AT_ONCE + forwards.A_SECOND * (found.pop("seconds") + 1)
    assert found.pop("open") <= forwards.OPEN + 5
    assert found == {"without the bounds": 6000}, "the test can see a hole"
