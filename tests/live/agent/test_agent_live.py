"""The agent for real: VMs under emulation on a bridge of its own, in network namespaces nothing else can see."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.machine_scripts.calling import run_script

pytestmark = pytest.mark.hosts


@pytest.fixture(scope="module")
def seen(image: Path) -> Iterator[dict[str, Any]]:
    work = Path(tempfile.mkdtemp(prefix="nqr-"))  # short: Unix sockets go below it
    work.chmod(0o711)  # users of VMs pass through it
    try:
        yield run_script("vms_on_a_bridge.py", image, work, namespaces=("net", "mount"), seconds=400)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def test_the_guest_has_its_name_its_address_and_reports(seen: dict[str, Any]) -> None:
    vm = seen["guest"]
    assert (vm["state"], vm["vmm"], vm["accel"]) == ("running", "qemu", "tcg")
    assert (vm["guest"]["ip"], vm["guest"]["hostname"], vm["guest"]["gateway_reachable"]) == ("10.0.0.20", "web1", True)
    assert vm["guest"]["disk_total_kib"] > 36 * 1024, "the file system was grown with the disk"
    assert seen["isolated"] == "1"


def test_starting_again_and_at_once_yields_one_vmm(seen: dict[str, Any]) -> None:
    assert len(seen["pids"][0]) == 1
    assert all(pids == seen["pids"][0] for pids in seen["pids"])


def test_the_console_is_a_terminal_for_several_viewers(seen: dict[str, Any]) -> None:
    assert "web1 login:" in seen["login"]
    assert re.search(r"web1\r\n42\r\n", seen["login"])
    assert "from-one" in seen["second_viewer"]


def test_an_agent_that_is_killed_finds_its_vms_again(seen: dict[str, Any]) -> None:
    assert seen["alive_without_agent"]
    assert seen["after_kill"] == [True, True, "running"]
    assert seen["put_after_kill"]


def test_an_agent_that_is_stopped_leaves_at_once_and_the_vms_alone(seen: dict[str, Any]) -> None:
    code, seconds, alive = seen["agent_stop"]
    assert (code, alive) == (0, True)
    assert seconds < 10


def test_pause_and_resume(seen: dict[str, Any]) -> None:
    assert seen["paused"] == ["paused", "paused", "running"]


def test_a_flood_on_the_serial_port_is_bounded_and_the_log_goes_on(seen: dict[str, Any]) -> None:
    assert seen["log_size"] < 400_000
    assert seen["log_goes_on"]


def test_a_stop_is_graceful_and_the_next_boot_another(seen: dict[str, Any]) -> None:
    state, tap, seconds, exit_status = seen["stop"]
    assert (state, tap, exit_status) == ("stopped", None, "0")
    assert seconds < 15
    assert seen["another_boot"]


def test_how_a_vm_ended_is_told(seen: dict[str, Any]) -> None:
    assert seen["killed"] == ["failed", "The VMM ended after signal 9."]
    assert seen["powered_off"] == ["stopped", "The guest powered off or rebooted."]
    assert seen["without_screen"]
    assert "console is gone" in seen["console_gone"]


def test_an_address_goes_from_a_deleted_vm_to_the_next(seen: dict[str, Any]) -> None:
    assert seen["gone"]
    assert seen["heir_ip"] == "10.0.0.20"


def test_nothing_is_left(seen: dict[str, Any]) -> None:
    assert seen["refused"] == "NQR-NET-701"
    assert seen["left"] == {"taps": [], "vms": [], "cache": [], "hosts": [], "processes": [], "leases": ""}


def test_the_agent_is_small(seen: dict[str, Any]) -> None:
    assert seen["agent_kib"] < 90 * 1024
