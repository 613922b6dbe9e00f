"""A full disk for real: VMs under emulation, whose folder is on a small file system."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.machine_scripts.calling import run_script

pytestmark = pytest.mark.hosts

WHY = "The disk of host live is full. The VM continues when there is room."


@pytest.fixture(scope="module")
def seen(image: Path) -> Iterator[dict[str, Any]]:
    yield from _run("vms_on_a_full_disk.py", image, 400)


@pytest.fixture(scope="module")
def eight(image: Path) -> Iterator[dict[str, Any]]:
    yield from _run("eight_vms_on_a_full_disk.py", image, 560)


def _run(script: str, image: Path, seconds: int) -> Iterator[dict[str, Any]]:
    work = Path(tempfile.mkdtemp(prefix="nqr-"))  # short: Unix sockets go below it
    work.chmod(0o711)  # users of VMs pass through it
    try:
        yield run_script(script, image, work, namespaces=("net", "mount"), seconds=seconds)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def test_a_full_disk_pauses_vms_with_a_reason(seen: dict[str, Any]) -> None:
    for found in (*seen["full"], *seen["still_full"]):
        assert (found["state"], found["why"]) == ("paused", WHY)


def test_they_run_again_within_half_a_minute_of_room_in_the_same_boot(seen: dict[str, Any]) -> None:
    for before, after in zip(seen["full"], seen["room"], strict=True):
        assert (after["state"], after["why"], after["pids"]) == ("running", "", before["pids"])
        assert after["seconds"] <= 30
    assert seen["boot"] == seen["boot_later"] and "nothing" not in seen["boot"]


def test_what_they_wrote_at_that_time_is_on_the_disk(seen: dict[str, Any]) -> None:
    for now, from_disk in seen["sums"]:
        assert now == from_disk != "nothing"


def test_a_pause_of_a_person_stays(seen: dict[str, Any]) -> None:
    assert seen["held"] == seen["held_later"] == ["paused", ""]
    assert (seen["other"]["state"], seen["resumed"], seen["boot_last"]) == ("running", "running", seen["boot"][1])


def test_a_full_disk_keeps_nobody_from_deleting_vms(seen: dict[str, Any]) -> None:
    assert seen["left"] == []


@pytest.mark.matrix
@pytest.mark.timeout(600)
def test_eight_vms_run_again_within_half_a_minute_of_room_in_the_same_boot(eight: dict[str, Any]) -> None:
    assert [(one["state"], one["why"]) for one in eight["full"]] == [("paused", WHY)] * 8
    assert [one["pids"] for one in eight["room"]] == [one["pids"] for one in eight["full"]]
    assert [one["state"] for one in eight["room"]] == eight["state_later"] == ["running"] * 8
    assert eight["seconds"] <= 30
    assert eight["boot"] == eight["boot_later"] and "nothing" not in eight["boot"]
