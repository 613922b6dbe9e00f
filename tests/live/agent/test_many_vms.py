"""Many VMs on one agent, under a real Firecracker and under QEMU with KVM."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import bare_guest, real_firecracker
from tests.machine_scripts.calling import run_script

pytestmark = pytest.mark.hosts
_reason = real_firecracker.why_not()
FEW, MANY = 12, 100


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("firecracker", FEW), id="firecracker"),
        pytest.param(("qemu", FEW), id="qemu"),
        pytest.param(("firecracker", MANY), id="many-firecracker", marks=pytest.mark.matrix),
        pytest.param(("qemu", MANY), id="many-qemu", marks=pytest.mark.matrix),
    ],
)
def seen(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    if _reason:
        pytest.skip(_reason)
    vmm, count = request.param
    programs = str(real_firecracker.programs()) if vmm == "firecracker" else "-"
    work = Path(tempfile.mkdtemp(prefix="nqr-"))  # short: Unix sockets go below it
    work.chmod(0o711)  # users of VMs pass through it
    try:
        image = work / "bare"
        image.mkdir()
        bare_guest.image(image, "nqr.halt")
        yield run_script("many_vms.py", image, work, programs, vmm, count, namespaces=("net", "mount"), seconds=800)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def test_all_boot_and_run(seen: dict[str, Any]) -> None:
    assert seen["booted"] == seen["running"] == seen["count"]


def test_all_run_on_through_a_restart_of_the_agent(seen: dict[str, Any]) -> None:
    assert seen["agent_ended"] == 0
    assert seen["alive_without_agent"] == seen["count"], "while no agent runs"
    assert seen["same_pids"]
    assert seen["put_again"], "the new agent starts no second VMM"


def test_a_list_is_quick_and_the_agent_stays_small(seen: dict[str, Any]) -> None:
    assert seen["list_seconds"] < 10
    assert seen["agent_mib_after_restart"] < 120


def test_nothing_is_left_of_them(seen: dict[str, Any]) -> None:
    assert seen["left"] == {"vms": [], "processes": [], "consoles": [], "taps": [], "hosts": []}
