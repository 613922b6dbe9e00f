"""Snapshots: what comes back is what was there, and a VM that runs is never copied behind its guest's back."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nqrust.agent.disks import reserve
from nqrust.agent.errors import Conflict, Failed, NotFound, Refused
from nqrust.agent.vmm.port import Capabilities
from nqrust.agent.vms.snapshots import Snapshots
from nqrust.contract.vms import StopRequest
from nqrust.host import durable
from nqrust.host.errors import NoSpace, PathError, PathMissing
from nqrust.host.port import DiskUsage

from .conftest import VM, Bench, Cut

VOLUMES = [{"device": "vdb", "size_mib": 16, "keep": False}]


def test_disks_come_back_as_they_were(bench: Bench) -> None:
    snapshots = Snapshots(bench.service)
    bench.service.put(bench.spec(volumes=VOLUMES, run=False))
    disk, volume = bench.vm_dir() / "disk.ext4", bench.vm_dir() / "vdb.raw"
    before = disk.read_bytes()
    volume.write_bytes(b"one")
    made = snapshots.create(VM, "before")
    assert (made.kind, made.size) == ("disk", len(before) + 3)
    assert snapshots.create(VM, "before") == made, "asked twice is once"
    disk.write_bytes(b"broken")
    volume.write_bytes(b"two")
    assert snapshots.restore(VM, "before").state == "stopped"
    assert (disk.read_bytes(), volume.read_bytes()) == (before, b"one")
    assert (bench.vm_dir() / "snapshots").stat().st_mode & 0o777 == 0o700
    snapshots.delete(VM, "before")
    snapshots.delete(VM, "before")
    with pytest.raises(NotFound):
        snapshots.restore(VM, "before")


def test_the_same_request_is_answered_again_and_another_one_is_a_new_snapshot(bench: Bench) -> None:
    snapshots = Snapshots(bench.service)
    bench.service.put(bench.spec(run=False))
    disk = bench.vm_dir() / "disk.ext4"
    disk.write_bytes(b"last month")
    month = snapshots.create(VM, "before", "one")
    disk.write_bytes(b"today")
    assert snapshots.create(VM, "before", "one") == month
    assert snapshots.create(VM, "before") == month, "a manager of an earlier version sends no identity"
    today = snapshots.create(VM, "before", "two")
    assert today.created_at > month.created_at and snapshots.found(VM) == [today]
    assert snapshots.create(VM, "before", "two") == today
    disk.write_bytes(b"broken")
    snapshots.restore(VM, "before")
    assert disk.read_bytes() == b"today"
    assert [path.name for path in (bench.vm_dir() / "snapshots").iterdir()] == ["before"]


def test_a_snapshot_of_an_earlier_version_is_no_answer_to_a_request(bench: Bench) -> None:
    snapshots = Snapshots(bench.service)
    bench.service.put(bench.spec(run=False))
    snapshots.create(VM, "before")
    meta = bench.vm_dir() / "snapshots" / "before" / "snapshot.json"
    meta.write_text(meta.read_text().replace(',"request":""', ""))
    (bench.vm_dir() / "disk.ext4").write_bytes(b"today")
    snapshots.create(VM, "before", "one")
    assert (meta.parent / "disk.ext4").read_bytes() == b"today"


@pytest.mark.parametrize("verb", ["create", "delete"])
@pytest.mark.parametrize("name", ["rename", "remove_tree"])
@pytest.mark.parametrize("nth", range(1, 5))
def test_a_snapshot_is_replaced_or_deleted_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, verb: str, name: str, nth: int
) -> None:
    snapshots = Snapshots(bench.service)
    bench.service.put(bench.spec(volumes=VOLUMES, run=False))
    disk, place = bench.vm_dir() / "disk.ext4", bench.vm_dir() / "snapshots"
    disk.write_bytes(b"old")
    snapshots.create(VM, "before", "one")
    disk.write_bytes(b"new")
    steps, step = 0, getattr(bench.service.host, name)

    def cut(*arguments: Any, **options: Any) -> None:
        nonlocal steps
        steps += 1
        if steps < nth:
            step(*arguments, **options)
            return
        if name == "remove_tree":
            (Path(arguments[0]) / "vdb.raw").unlink(missing_ok=True)
        raise Cut

    def ask() -> None:
        snapshots.create(VM, "before", "two") if verb == "create" else snapshots.delete(VM, "before")

    with monkeypatch.context() as patched, suppress(Cut):
        patched.setattr(bench.service.host, name, cut)
        ask()
    for found in snapshots.found(VM):
        saved = {path.name: path.read_bytes() for path in (place / found.name).iterdir()}
        assert saved.keys() == {"disk.ext4", "vdb.raw", "snapshot.json"}, "what is listed is whole"
    if verb == "create":
        assert {path.read_bytes() for path in place.glob("*/disk.ext4")} & {b"old", b"new"}, "one of both is there"
    ask()
    assert [path.name for path in place.iterdir()] == (["before"] if verb == "create" else [])
    assert [path.read_bytes() for path in place.glob("*/disk.ext4")] == ([b"new"] if verb == "create" else [])


def test_a_new_snapshot_that_fails_leaves_the_one_that_is_there(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshots = Snapshots(bench.service)
    bench.service.put(bench.spec(run=False))
    made = snapshots.create(VM, "before", "one")
    rename = durable.rename

    def failing(source: str, target: str) -> None:
        if source.endswith(".new"):
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patched, pytest.raises(PathError):
        patched.setattr(durable, "rename", failing)
        snapshots.create(VM, "before", "two")
    assert snapshots.found(VM) == [made]
    nearly_full(monkeypatch, bench, left_mib=0)
    with pytest.raises(NoSpace):
        snapshots.create(VM, "before", "two")
    assert snapshots.found(VM) == [made]


def two_disks(bench: Bench) -> tuple[Snapshots, Path, Path]:
    """A snapshot `before` of two disks, which both changed since."""
    snapshots = Snapshots(bench.service)
    bench.service.put(bench.spec(volumes=VOLUMES, run=False))
    disk, volume = bench.vm_dir() / "disk.ext4", bench.vm_dir() / "vdb.raw"
    volume.write_bytes(b"one")
    snapshots.create(VM, "before")
    disk.write_bytes(b"new disk")
    volume.write_bytes(b"new volume")
    return snapshots, disk, volume


def test_a_restore_whose_second_disk_cannot_be_copied_changes_none(bench: Bench) -> None:
    snapshots, disk, volume = two_disks(bench)
    (bench.vm_dir() / "snapshots" / "before" / "disk.ext4").unlink()
    with pytest.raises(PathMissing):
        snapshots.restore(VM, "before")
    assert (disk.read_bytes(), volume.read_bytes()) == (b"new disk", b"new volume")
    assert not list(bench.vm_dir().glob("*.restored"))


def test_a_restore_that_ends_between_two_disks_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshots, disk, volume = two_disks(bench)
    rename = durable.rename

    def failing(source: str, target: str) -> None:
        if target == str(disk):
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(durable, "rename", failing)
        with pytest.raises(Failed) as halfway:
            snapshots.restore(VM, "before")
    assert halfway.value.code == "NQR-VMM-140" and "1 of its 2 disks are those of snapshot before" in str(halfway.value)
    assert (disk.read_bytes(), volume.read_bytes()) == (b"new disk", b"one")
    assert not list(bench.vm_dir().glob("*.restored"))
    snapshots.restore(VM, "before")
    assert disk.read_bytes() != b"new disk"


def test_a_restore_keeps_its_generation_and_an_older_one_is_refused(bench: Bench) -> None:
    snapshots = Snapshots(bench.service)
    bench.service.put(bench.spec(run=False, generation=2))
    snapshots.create(VM, "before")
    assert snapshots.restore(VM, "before", 4).generation == 4
    disk = bench.vm_dir() / "disk.ext4"
    disk.write_bytes(b"newer")
    with pytest.raises(Conflict) as refused:
        snapshots.restore(VM, "before", 3)
    assert refused.value.code == "NQR-API-705"
    assert disk.read_bytes() == b"newer"


def test_an_older_request_takes_and_deletes_no_snapshot(bench: Bench) -> None:
    snapshots = Snapshots(bench.service)
    bench.service.put(bench.spec(run=False))
    disk = bench.vm_dir() / "disk.ext4"
    disk.write_bytes(b"today")
    today = snapshots.create(VM, "daily", "two", 4)
    disk.write_bytes(b"tomorrow")
    for old in (lambda: snapshots.create(VM, "daily", "one", 3), lambda: snapshots.delete(VM, "daily", 3)):
        with pytest.raises(Conflict) as refused:
            old()
        assert refused.value.code == "NQR-API-705" and snapshots.found(VM) == [today]
    snapshots.delete(VM, "daily", 5)
    assert snapshots.found(VM) == [] and bench.service.status(VM).generation == 5
    snapshots.delete("never-seen", "daily", 1)


def test_a_running_vm_under_qemu_is_refused_and_left_alone(bench: Bench) -> None:
    bench.service.put(bench.spec())
    with pytest.raises(Refused) as refused:
        Snapshots(bench.service).create(VM, "live")
    assert refused.value.code == "NQR-VMM-112"
    assert not bench.vmm.paused
    assert not list((bench.vm_dir() / "snapshots").iterdir()), "nothing half-made stays"


def test_a_full_snapshot_freezes_the_vm_and_goes_on_from_there(bench: Bench) -> None:
    bench.vmm.capabilities = Capabilities(frozenset({"tcg"}), snapshot=True)
    snapshots = Snapshots(bench.service)
    bench.service.put(bench.spec())
    assert snapshots.create(VM, "live").kind == "full"
    assert not bench.vmm.paused, "it runs on"
    with pytest.raises(Refused) as refused:
        snapshots.restore(VM, "live")
    assert refused.value.code == "NQR-VMM-113"
    bench.service.stop(VM, StopRequest())
    assert snapshots.restore(VM, "live").state == "running"
    assert bench.vmm.loaded == [str(bench.vm_dir() / "snapshots" / "live")]


def test_a_guest_goes_on_once_its_tap_is_on_the_bridge(bench: Bench) -> None:
    bench.vmm.capabilities = Capabilities(frozenset({"tcg"}), snapshot=True)
    snapshots = Snapshots(bench.service)
    bench.service.put(bench.spec())
    snapshots.create(VM, "live")
    bench.service.stop(VM, StopRequest())
    begin, seen = bench.vmm.begin, list[bool]()
    bench.vmm.begin = lambda machine: (seen.append(bench.taps.connected(machine.tap, VM)), begin(machine))[1]  # type: ignore[method-assign]
    bench.taps.before_it_takes = lambda: time.sleep(0.2)
    snapshots.restore(VM, "live")
    assert seen == [True], "it may have connections"


@pytest.mark.parametrize("name", ["..", "a/b", "", "A", "x" * 70])
def test_names_lead_nowhere_else(bench: Bench, name: str) -> None:
    bench.service.put(bench.spec(run=False))
    with pytest.raises(Refused):
        Snapshots(bench.service).create(VM, name)


def nearly_full(monkeypatch: pytest.MonkeyPatch, bench: Bench, left_mib: int) -> None:
    """The disk of the VMs has `left_mib` MiB more than the reserve."""
    total, free = 100 << 30, reserve.RESERVE + (left_mib << 20)
    monkeypatch.setattr(type(bench.service.host), "disk_usage", lambda self, path: DiskUsage(total, free, 1000, False))
    monkeypatch.setattr(durable.os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=free // 4096, f_frsize=4096))
    monkeypatch.setattr(durable, "FICLONE", 0)  # a file system without shared blocks


def test_a_snapshot_leaves_room_for_the_other_vms(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.service.put(bench.spec(volumes=VOLUMES, run=False))
    (bench.vm_dir() / "vdb.raw").write_bytes(b"x" * (2 << 20))
    nearly_full(monkeypatch, bench, left_mib=0)
    with pytest.raises(NoSpace):
        Snapshots(bench.service).create(VM, "full")
    assert not list((bench.vm_dir() / "snapshots").iterdir())
    nearly_full(monkeypatch, bench, left_mib=64)
    Snapshots(bench.service).create(VM, "fits")
    nearly_full(monkeypatch, bench, left_mib=0)
    with pytest.raises(NoSpace):
        Snapshots(bench.service).restore(VM, "fits")


@pytest.mark.parametrize("way", ["no room for a copy", "the VMM fails"])
def test_a_vmm_that_keeps_its_memory_open_does_not_fill_the_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """The memory fits once: a copy of it would take the room of the other VMs."""
    bench.vmm.capabilities = Capabilities(frozenset({"tcg"}), snapshot=True)
    bench.service.put(bench.spec())
    held = list[int]()

    def snapshot(directory: str, folder: str, user: int, limit: int) -> None:
        memory = Path(folder, "memory")
        memory.write_bytes(b"m" * (1 << 20))
        held.append(os.open(memory, os.O_RDWR))
        nearly_full(monkeypatch, bench, left_mib=0)
        if way == "the VMM fails":
            raise Failed("NQR-VMM-116", "It failed.", "Try again.")

    monkeypatch.setattr(bench.vmm, "snapshot", snapshot)
    with pytest.raises(NoSpace if way == "no room for a copy" else Failed):
        Snapshots(bench.service).create(VM, "live")
    assert os.fstat(held[0]).st_blocks == 0, "nor does the file that it has open"
    os.close(held[0])
    assert not bench.vmm.paused and not list((bench.vm_dir() / "snapshots").iterdir())


def test_memory_that_does_not_fit_is_not_saved(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.vmm.capabilities = Capabilities(frozenset({"tcg"}), snapshot=True)
    bench.service.put(bench.spec())
    nearly_full(monkeypatch, bench, left_mib=1)
    with pytest.raises(NoSpace, match="the memory"):
        Snapshots(bench.service).create(VM, "live")
    assert not bench.vmm.paused and not list((bench.vm_dir() / "snapshots").iterdir())
