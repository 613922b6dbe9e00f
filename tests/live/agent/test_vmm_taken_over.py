"""A VMM that a guest took over reaches nothing of the host's network and services, and no other process of the VM does."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.machine_scripts.calling import run_script

RING = "ring of system calls"
REACHED = {"loopback", "lan", "metadata", "gateway", "loopback over IPv6", "abstract socket", "system bus", "socket in /tmp",
           "shared memory", "user namespace", "virtual socket", "shared memory as files", "file in /var/tmp",
           "file in a folder of everybody", "file in a folder of its own", "terminal", "device of the host",
           RING, "debugger", "keys of the kernel", "reserved room"}  # fmt: skip
ONLY_WHILE_IT_RUNS = {"file in a folder of everybody", "file in a folder of its own", "terminal", "device of the host"}
"""A disk tool makes files, and has the host's devices, for as long as it works. No process of it stays."""


@pytest.fixture(scope="module")
def seen() -> Any:
    lacking = [program for program in ("unshare", "nsenter", "setpriv", "screen", "ip", "mount") if shutil.which(program) is None]
    if os.geteuid() != 0 or lacking or not os.path.exists("/dev/net/tun"):
        pytest.skip(f"needs root, TAP devices and {' '.join(lacking) or 'programs'}")
    if Path(sys.executable).is_relative_to("/tmp"):
        pytest.skip("needs a checkout outside of /tmp, which it replaces")
    return run_script("vmm_taken_over.py", namespaces=("net", "mount", "ipc"), seconds=300)


def test_the_test_can_see_a_hole(seen: Any) -> None:
    off = Path("/proc/sys/kernel/io_uring_disabled")  # some distributions turn it off for everybody
    lacking = {RING} if off.exists() and off.read_text().strip() != "0" else set()
    assert {what for what, reached in seen["in the host's"].items() if reached} == REACHED - lacking


def test_a_vmm_with_its_tap_open_reaches_nothing_of_the_host(seen: Any) -> None:
    assert seen["not confined"] == ""
    assert set(seen["vmm"]) == {*REACHED, "another TAP", "MAC of the TAP"}
    assert [what for what, reached in seen["vmm"].items() if reached] == []
    assert seen["tap works"] and seen["bridge kept its MAC"]


@pytest.mark.parametrize(("who", "may"), [("viewer", set()), ("disk tool", ONLY_WHILE_IT_RUNS)])
def test_neither_does_another_program_that_runs_as_the_vms_user(seen: Any, who: str, may: set[str]) -> None:
    assert set(seen[who]) == REACHED
    assert {what for what, reached in seen[who].items() if reached} == may
