"""Commands in a guest without a network: the image `tiny` under QEMU, the agent's WebSocket and the code of `nqr`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.machine_scripts.calling import run_script

pytestmark = pytest.mark.hosts
LOST, NOT_STARTED = "NQR-VMM-131", "NQR-VMM-130"


@pytest.fixture(scope="module")
def seen(image: Path) -> Iterator[dict[str, Any]]:
    work = Path(tempfile.mkdtemp(prefix="nqr-"))  # short: Unix sockets go below it
    work.chmod(0o711)  # users of VMs pass through it
    try:
        yield run_script("guest_sessions.py", image, work, namespaces=("net", "mount"), seconds=500)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def test_a_command_ends_with_its_own_code(seen: dict[str, Any]) -> None:
    assert seen["codes"] == [0, 42, 137]
    assert seen["no_program"] == ["NQR-VMM-132", 127]


def test_output_and_error_are_apart_and_root_runs_it(seen: dict[str, Any]) -> None:
    assert seen["streams"] == [0, "out\n/root\n0\n", "err\n"]


def test_no_byte_is_lost_both_ways(seen: dict[str, Any]) -> None:
    assert seen["mebibyte"] == [0, True]
    assert seen["together"] == [True] * 8


def test_a_file_and_a_folder_are_copied_both_ways(seen: dict[str, Any]) -> None:
    there, digest = seen["copied"]["there"]
    assert [word for word in there if len(word) == 64] == [digest, digest]
    assert there[4:] == [
        "755",
        "0",
        "regular",
        "empty",
        "file",
        "777",
        "0",
        "symbolic",
        "link",
        "big",
        "empty",
        "link",
        "sub",
        "folder",
    ]
    names, same, mode, link = seen["copied"]["back"]
    assert names == ["big", "empty", "link", "longlong", "sub fold"]
    assert (same, mode, link) == (True, "0o755", "big")


def test_a_copy_that_cannot_be_says_whose_fault_it_is(seen: dict[str, Any]) -> None:
    assert seen["copied"]["not_there"][0] == "NQR-VMM-133" and "no such file" in seen["copied"]["not_there"][1]
    assert seen["copied"]["no_folder"][0] == "NQR-VMM-133" and "no folder" in seen["copied"]["no_folder"][1]
    assert seen["copied"]["full"][0] == "NQR-VMM-133"


def test_a_terminal_has_its_size_and_gets_a_new_one(seen: dict[str, Any]) -> None:
    assert seen["terminal"] == [0, "33 101\r\ntyped\r\n40 120\r\ntyped\r\n"]


def test_a_signal_reaches_the_command(seen: dict[str, Any]) -> None:
    assert seen["signal"] == 9


def test_a_process_left_in_the_background_holds_nobody(seen: dict[str, Any]) -> None:
    assert seen["left_running"] == 0


def test_a_killed_agent_ends_the_session_with_a_code_and_the_next_one_works(seen: dict[str, Any]) -> None:
    assert seen["agent_killed"][:2] == [LOST, 125]
    assert seen["after_agent"] == 3


def test_a_killed_guest_agent_ends_the_session_and_the_next_one_works(seen: dict[str, Any]) -> None:
    code, exit_code, what = seen["guest_agent_killed"]
    assert (code, exit_code) == (LOST, 125) and "the guest agent started again" in what
    assert seen["after_guest_agent"] == 4


def test_snapshots_keep_the_way_in(seen: dict[str, Any]) -> None:
    assert [seen["after_snapshot"], seen["after_restore"]] == [5, 6]


def test_a_stopped_vm_ends_the_session_and_starts_none(seen: dict[str, Any]) -> None:
    assert seen["vm_stopped"][:2] == [LOST, 125]
    assert seen["not_running"][0] == NOT_STARTED and "does not run" in seen["not_running"][2]


def test_a_vm_without_guest_exec_has_no_port_and_refuses(seen: dict[str, Any]) -> None:
    assert seen["switched_off"][0] == NOT_STARTED and "NQR-VMM-124" in seen["switched_off"][2]
    assert seen["port_switched_off"] is False
