"""The agent with a real Firecracker in its jail, and with QEMU under KVM: the same guest, the same promises."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import bare_guest, real_firecracker
from tests.machine_scripts.calling import run_script

import nqrust

pytestmark = pytest.mark.hosts
_reason = real_firecracker.why_not()


@pytest.fixture(scope="module", params=["firecracker", "qemu"])
def seen(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    if _reason:
        pytest.skip(_reason)
    vmm = request.param
    programs = str(real_firecracker.programs()) if vmm == "firecracker" else "-"
    work = Path(tempfile.mkdtemp(prefix="nqr-"))  # short: Unix sockets go below it
    work.chmod(0o711)  # users of VMs pass through it
    try:
        image = work / "bare"
        image.mkdir()
        bare_guest.image(image)
        yield {"vmm_name": vmm} | run_script(
            "vms_under_firecracker.py", image, work, programs, vmm, namespaces=("net", "mount"), seconds=200
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def test_the_guest_boots_under_kvm(seen: dict[str, Any]) -> None:
    assert seen["first"] == ["running", seen["vmm_name"], "kvm", 1]


def test_the_vmm_and_its_console_are_nobody_on_the_host(seen: dict[str, Any]) -> None:
    for process in (seen["vmm"], seen["screen"]):
        assert process["uids"] == process["gids"] and process["uids"][0] >= 1_900_000_000, process
        assert process["capabilities"] == ["0" * 16], process
        assert process["no_new_privileges"] == "1", process
    assert seen["vmm"]["seccomp"] == "2"


def test_no_process_of_a_vm_has_the_network_the_ipc_or_the_services_of_the_host(seen: dict[str, Any]) -> None:
    assert seen["vmm_is_found"]
    found = seen["surroundings"]
    assert set(found) >= {"screen", "sleep", "viewer of screen"} and len(found) == 4, found
    for name, what in found.items():
        run = what.pop("run")
        assert run == [] or name == "firecracker", "its jail has a folder of that name"
        assert what == {"shared": [], "links": ["lo"], "filtered": True}, name


def test_its_user_opens_no_file_of_another_vm_and_no_configuration(seen: dict[str, Any]) -> None:
    assert seen["others"] > 5
    assert seen["reached"] == []


def test_its_user_makes_no_file_anywhere(seen: dict[str, Any]) -> None:
    """No limit would count such files: they could fill the host's disk and use up its inodes."""
    assert seen["own_folders"] >= 2
    assert seen["makes_files"] == [[], []], "of the booted VM, then of the one that a snapshot was taken of"


def test_a_jailed_vmm_sees_its_own_files_only(seen: dict[str, Any]) -> None:
    if seen["vmm_name"] == "qemu":
        assert "etc" in seen["root"], "QEMU has no jail"
        return
    assert seen["root"] == sorted(
        ["dev", "disk0", "disk1", "firecracker", "firecracker.log", "firecracker.metrics", "firecracker.pid", "firecracker.sock", "guest", "kernel", "run",
         "saved"]
    )  # fmt: skip


def test_the_console_works_both_ways(seen: dict[str, Any]) -> None:
    assert "counter 1" in seen["typed"] and "counter 2" in seen["typed"]
    assert seen["boot_id_shown"]


def test_a_vm_is_paused_resumed_and_limited(seen: dict[str, Any]) -> None:
    assert seen["paused"] == ["paused", "running"]
    assert seen["limited"] == "running"


def test_the_memory_of_a_snapshot_goes_on_in_another_process(seen: dict[str, Any]) -> None:
    assert seen["snapshot"] == ["full", True]
    assert seen["count_after"], "the VM runs on after its snapshot"
    assert seen["restored"] == ["running", True]
    assert seen["went_on"] == [True, True, True], "counter and boot id are those of the snapshot"
    assert seen["snapshot_again"] == "full"


def test_a_vm_outlives_its_agent(seen: dict[str, Any]) -> None:
    assert seen["after_kill"] == ["running", True]
    assert seen["typed_after_kill"]


def test_a_vm_whose_agent_was_killed_before_it_took_the_tap_gets_its_network(seen: dict[str, Any]) -> None:
    assert seen["connected"]


def test_what_a_guest_leaves_to_the_host_is_done_before_the_hosts_rules(seen: dict[str, Any]) -> None:
    """QEMU takes nothing from it."""
    has_header, led_round = seen["way"]
    assert has_header == (seen["vmm_name"] == "firecracker")
    assert led_round or not has_header


def test_vms_run_on_while_the_agent_is_replaced_by_a_newer_one(seen: dict[str, Any]) -> None:
    """Its successor also stops, starts and deletes them: see the tests below."""
    assert seen["old_agent_ended"] == 0
    assert seen["alone"] == [True], "while no agent runs"
    assert [seen["old_version"], seen["new_version"]] == [nqrust.__version__, "99.1.0"]
    assert seen["after_upgrade"] == ["running", True]
    assert seen["typed_after_upgrade"]


def test_a_graceful_stop_asks_the_guest(seen: dict[str, Any]) -> None:
    assert seen["stop"] == ["stopped", "0", True]
    assert ("ctrl-alt-del" if seen["vmm_name"] == "firecracker" else "power button") in seen["asked"]


def test_forced_stop_reset_and_crash_are_told_apart(seen: dict[str, Any]) -> None:
    assert seen["forced"] == ["stopped", False]
    assert seen["reset"] == ["stopped", "The guest powered off or rebooted."]
    assert seen["killed"] == ["failed", "The VMM ended after signal 11."]


def test_the_process_of_a_container_is_on_the_disk_and_its_exit_code_is_heard(seen: dict[str, Any]) -> None:
    """The guest of these tests has no init: it only says the line with which one ends."""
    assert seen["process"]["file"] == "arg=serve\narg=a b\nenv=A=1\nuser=web\ndir=/\nstop=SIGTERM\n"
    assert seen["process"]["codes"] == [
        [None, "failed", "Its process ended with exit code 3.", 3],
        [None, "stopped", "Its process ended with exit code 0.", 0],
    ]


def test_a_flood_on_the_console_is_bounded(seen: dict[str, Any]) -> None:
    size, still_its_own = seen["flood"]
    assert size < 400_000 and still_its_own


def test_nothing_is_left(seen: dict[str, Any]) -> None:
    assert seen["left"] == {"vms": [], "processes": [], "consoles": [], "taps": [], "mounts": []}
