"""Snapshots of running VMs, rate limits and kept volumes for real: QEMU under emulation, in namespaces of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.machine_scripts.calling import run_script

pytestmark = pytest.mark.hosts
A = "a1111111-aaaa-4aaa-8aaa-aaaaaaaaaaaa"


@pytest.fixture(scope="module")
def seen(image: Path) -> Iterator[dict[str, Any]]:
    work = Path(tempfile.mkdtemp(prefix="nqr-"))  # short: Unix sockets go below it
    work.chmod(0o711)  # users of VMs pass through it
    try:
        yield run_script("vms_saved_and_limited.py", image, work, namespaces=("net", "mount"), seconds=600)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def test_a_guest_goes_on_from_its_snapshot_with_memory_and_disks_of_then(seen: dict[str, Any]) -> None:
    saved = seen["saved"]
    assert saved["after_snapshot"] == ["running", True], "it runs on, in the same VMM"
    assert saved["restore_of_running"] == "NQR-VMM-113"
    assert saved["restored"] == ["running", True], "in another VMM"
    assert saved["went_on"] == [True, True], "what was in memory, and what was on the volume"
    assert saved["same_boot"]
    assert set(saved["sizes"]) == {"memory", "board", "guest", "plain", "disk.ext4", "vdb.raw", "snapshot.json"}


def test_a_paused_guest_stays_paused_however_often_it_is_snapshotted(seen: dict[str, Any]) -> None:
    assert [seen["saved"][key] for key in ("frozen_stays", "frozen_twice", "resumed")] == ["paused", "paused", "running"]


def test_limits_are_in_force_from_the_start_and_traffic_passes_through_them(seen: dict[str, Any]) -> None:
    saved = seen["saved"]
    assert {kind: rate for kind, (rate, _) in saved["buckets"].items()} == {"tap": 2_500_000, "ifb": 1_250_000}
    assert all(passed > 0 for _, passed in saved["buckets"].values())
    assert saved["throttles"] == [[41_943_040, 900]] * 2


def test_limits_change_while_the_guest_runs_and_leave_nothing(seen: dict[str, Any]) -> None:
    limited = seen["limited"]
    none = [{}, [[0, 0], [0, 0]]]
    assert limited["restored_to_none"] == none
    assert limited["on"] == [{"tap": 2_500_000, "ifb": 1_250_000}, [[41_943_040, 900]] * 2]
    assert limited["less"] == [{"tap": 625_000}, [[0, 100]] * 2]
    assert limited["off"] == none
    assert limited["left"] == []


def test_a_kept_volume_goes_to_the_next_vm_with_what_is_on_it(seen: dict[str, Any]) -> None:
    kept = seen["kept"]
    name = f"web1-vdb-{A}"
    assert kept["kept"] == [{"name": name, "size_mib": 16}]
    assert (kept["attached"], kept["data"]) == ([], True), "one VM has it, and nobody else can"
    assert kept["kept_again"] == [name]
    assert kept["between"]["while_it_runs"] == "NQR-VMM-119"
    assert kept["removed"] == []


def test_a_guest_calls_its_disks_and_its_nic_the_same_when_one_before_them_is_gone(seen: dict[str, Any]) -> None:
    between = seen["kept"]["between"]
    assert between["first"][-2:] == ["vdb=32768", "vdc=49152"]
    assert between["free"] == [f"web1-vdb-{A}"]
    assert between["then"][1:] == ["vdb=0", "vdc=49152", "vdd=0", "vde=65536"], "where there is no volume there is no room"
    assert between["data"] and between["same_nic"]
    assert between["partitions"] == ["vda", "vdc", "vde"]
    assert between["restored"] == "running", "from a snapshot with memory, too"
