"""Volumes: one VM has one, its data is never lost, they come and go while it is stopped, and names lead nowhere else."""

from __future__ import annotations

import mmap
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nqrust.agent import untrusted
from nqrust.agent.disks import volumes
from nqrust.agent.errors import Failed, Refused
from nqrust.contract.volumes import KeptVolume
from nqrust.host.errors import NoSpace
from nqrust.host.local import LocalHost

from .conftest import VM, Bench, Cut, killed_at

OTHER = "1b8f0c3e-5f0e-4a53-9f4e-6a1d2a8f7c12"
EMPTY = [{"device": "vdb", "size_mib": 16, "keep": True}]
NAME = f"web1-vdb-{VM}"
KEPT = [{"device": "vdb", "size_mib": 16, "keep": True, "name": NAME}]


def leave_one(bench: Bench) -> None:
    bench.service.put(bench.spec(volumes=EMPTY, run=False))
    (bench.vm_dir() / "vdb.raw").write_bytes(b"data")
    bench.service.delete(VM)


def test_a_kept_volume_is_attached_and_keeps_its_name(bench: Bench) -> None:
    leave_one(bench)
    assert bench.service.inventory(None).volumes == [KeptVolume(name=NAME, size_mib=1)]
    other = bench.spec(OTHER, name="web2", ip="10.0.0.21", volumes=KEPT)
    bench.service.put(other)
    bench.service.put(other)
    assert (bench.vm_dir(OTHER) / "vdb.raw").read_bytes() == b"data"
    assert bench.service.inventory(None).volumes == [], "while a VM has it nobody else can"
    with pytest.raises(Refused) as refused:
        bench.service.put(bench.spec(volumes=KEPT, run=False))
    assert refused.value.code == "NQR-VMM-117"
    bench.service.delete(OTHER)
    assert (bench.root / "fc" / "volumes" / f"{NAME}.raw").read_bytes() == b"data"


@pytest.mark.parametrize("way", ["writes", "reads", "maps"])
def test_whoever_still_has_a_volume_of_one_vm_open_has_not_that_of_the_next(bench: Bench, way: str) -> None:
    """A VMM in the hands of its guest passes its descriptor on to a program of another user, which lives on."""
    leave_one(bench)
    passed_on = os.open(folder(bench) / f"{NAME}.raw", os.O_RDONLY if way == "reads" else os.O_RDWR)
    inode = os.fstat(passed_on).st_ino
    mapped = mmap.mmap(passed_on, 0, prot=mmap.PROT_READ | (0 if way == "reads" else mmap.PROT_WRITE))
    if way == "maps":
        os.close(passed_on)
    bench.service.put(bench.spec(OTHER, name="web2", ip="10.0.0.21", volumes=KEPT))
    volume = bench.vm_dir(OTHER) / "vdb.raw"
    assert volume.read_bytes() == b"data"
    volume.write_bytes(b"mine")
    if way == "reads":
        assert mapped[:] == b"data", "it does not see what the next VM writes, and a backup is whole"
    if way == "writes":
        assert os.fstat(passed_on).st_blocks == 0, "its room is free again"
        os.pwrite(passed_on, b"evil", 0)
    assert volume.stat().st_ino != inode
    assert volume.read_bytes() == b"mine"
    mapped.close()
    if way != "maps":
        os.close(passed_on)


def test_a_volume_that_nobody_has_open_is_moved_and_not_copied(bench: Bench) -> None:
    leave_one(bench)
    inode = (folder(bench) / f"{NAME}.raw").stat().st_ino
    bench.service.put(bench.spec(OTHER, name="web2", ip="10.0.0.21", volumes=KEPT))
    assert (bench.vm_dir(OTHER) / "vdb.raw").stat().st_ino == inode


def test_a_volume_is_not_copied_into_the_room_that_vms_need(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_one(bench)
    kept = folder(bench) / f"{NAME}.raw"
    usage = LocalHost().disk_usage(str(kept.parent))
    monkeypatch.setattr(LocalHost, "disk_usage", lambda *_: replace(usage, total=1 << 60))
    monkeypatch.setattr("nqrust.agent.disks.reserve.RESERVE", 1 << 59)
    with kept.open("rb"), pytest.raises(NoSpace):
        bench.service.put(bench.spec(OTHER, name="web2", ip="10.0.0.21", volumes=KEPT, run=False))
    assert kept.read_bytes() == b"data"


def test_a_volume_is_never_put_over_another(bench: Bench) -> None:
    bench.service.put(bench.spec(volumes=EMPTY, run=False))
    folder = bench.root / "fc" / "volumes"
    folder.mkdir(exist_ok=True)
    (folder / f"{NAME}.raw").write_bytes(b"somebody's")
    with pytest.raises(Failed) as failed:
        bench.service.delete(VM)
    assert failed.value.code == "NQR-VMM-118"
    assert (folder / f"{NAME}.raw").read_bytes() == b"somebody's"
    assert (bench.vm_dir() / "vdb.raw").exists()


def test_a_disk_that_somebody_put_there_can_be_attached_and_other_files_are_not_seen(bench: Bench) -> None:
    folder = bench.root / "fc" / "volumes"
    folder.mkdir(exist_ok=True)
    for file in ("mine.raw", "NOT.raw", "notes.txt", ".raw", "a b.raw"):
        (folder / file).write_bytes(b"x" * 3_000_000)
    host = bench.service.host
    assert volumes.kept(host, str(folder)) == [KeptVolume(name="mine", size_mib=3)]
    volumes.remove(host, str(folder), "mine")
    volumes.remove(host, str(folder), "mine")
    assert volumes.kept(host, str(folder)) == []
    assert volumes.kept(host, str(folder / "nowhere")) == []


@pytest.mark.parametrize("name", ["..", "a/b", "", "A", "x" * 130, "../vms/x"])
def test_names_lead_nowhere_else(bench: Bench, name: str) -> None:
    with pytest.raises(Refused):
        volumes.remove(bench.service.host, "/nowhere", name)


# --- of a VM that is there
LATER = {"device": "vdc", "size_mib": 16, "keep": False, "kept_as": f"web1-vdc-{VM}-7"}


def folder(bench: Bench) -> Path:
    return bench.root / "fc" / "volumes"


def files(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir()) if place.exists() else []


def put(bench: Bench, generation: int, volumes: list[dict[str, Any]], **changes: Any) -> Any:
    return bench.service.put(bench.spec(generation=generation, volumes=volumes, **{"run": False, **changes}))


def devices(bench: Bench) -> list[str]:
    record = bench.service.store.read(VM)
    return [volume.device for volume in record.volumes] if record else []


def test_volumes_come_and_go_while_the_vm_is_stopped(bench: Bench) -> None:
    put(bench, 1, EMPTY)
    disk = bench.vm_dir() / "disk.ext4"
    before = disk.stat()
    for _ in range(2):
        put(bench, 2, [*EMPTY, LATER], attached=["vdc"])
        assert devices(bench) == ["vdb", "vdc"] and (bench.vm_dir() / "vdc.raw").stat().st_size == 16 << 20
    (bench.vm_dir() / "vdc.raw").write_bytes(b"mine")
    for _ in range(2):
        put(bench, 3, EMPTY, detached=[{**LATER, "data": "keep"}])
        assert devices(bench) == ["vdb"]
        assert files(folder(bench)) == [f"web1-vdc-{VM}-7.raw"]
    assert (folder(bench) / f"web1-vdc-{VM}-7.raw").read_bytes() == b"mine"
    for _ in range(2):
        put(bench, 4, [], detached=[{**EMPTY[0], "data": "delete"}])
        assert devices(bench) == []
    assert [name for name in files(bench.vm_dir()) if name.endswith(".raw")] == []
    assert (disk.stat().st_ino, disk.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_vm_that_runs_neither_gets_nor_loses_one(bench: Bench) -> None:
    put(bench, 1, EMPTY, run=True)
    for changes in (
        {"volumes": [*EMPTY, LATER], "attached": ["vdc"]},
        {"volumes": [], "detached": [{**EMPTY[0], "data": "delete"}]},
    ):
        with pytest.raises(Refused) as refused:
            put(bench, 2, **changes)
        assert refused.value.code == "NQR-VMM-119"
        assert [name for name in files(bench.vm_dir()) if name.startswith("vd")] == ["vdb.raw"]
    assert put(bench, 2, EMPTY, detached=[LATER]).state == "running", "what is gone already is no reason"


def test_a_start_brings_what_is_to_come_and_is_repeated_once_it_runs(bench: Bench) -> None:
    put(bench, 1, EMPTY)
    for _ in range(2):
        status = put(bench, 2, [LATER], attached=["vdc"], detached=[{**EMPTY[0], "data": "keep"}], run=True)
        assert (status.state, devices(bench)) == ("running", ["vdc"])
    assert files(folder(bench)) == [f"{NAME}.raw"]


def test_a_letter_between_two_volumes_gets_a_drive_without_room(bench: Bench) -> None:
    two = [LATER, {**LATER, "device": "vde", "kept_as": None}]
    put(bench, 1, two)
    record = bench.service.store.read(VM)
    assert record is not None
    drives = volumes.paths(bench.service.host, bench.service.store, record)
    assert [path.rpartition("/")[2] for path in drives] == ["vdb.gap", "vdc.raw", "vdd.gap", "vde.raw"]
    assert [Path(path).stat().st_size for path in drives] == [0, 16 << 20, 0, 16 << 20]
    put(bench, 2, two, run=True)
    put(bench, 3, two, run=True, rate_limits={"disk_iops": 100})
    assert bench.vmm.limited[-1][0] == 4, "each of them is limited"


@pytest.mark.parametrize("nth", range(1, 14))
def test_cut_off_anywhere_and_asked_again_it_ends_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    """vdb goes and is kept, vdd goes for good, vdc comes, vde is a kept one."""
    folder(bench).mkdir(exist_ok=True)
    (folder(bench) / "data1.raw").write_bytes(b"kept")
    there = [EMPTY[0], {"device": "vdd", "size_mib": 16, "keep": False}]
    put(bench, 1, there)
    (bench.vm_dir() / "vdb.raw").write_bytes(b"mine")
    wanted = [LATER, {"device": "vde", "size_mib": 1, "keep": True, "name": "data1"}]
    asked = {"attached": ["vdc", "vde"], "detached": [{**there[0], "data": "keep"}, {**there[1], "data": "delete"}]}
    host, steps = bench.service.host, 0

    def counted(name: str, owner: Any = host) -> None:
        real = getattr(owner, name)

        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == nth:
                raise Cut
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, step)

    for name in ("rename", "remove", "write_file", "run", "mkdir", "set_mode"):
        counted(name)
    counted("hand_over", untrusted)
    cut = False
    try:
        put(bench, 2, wanted, **asked)
    except Cut:
        cut = True
        everywhere = [path.read_bytes() for place in (bench.vm_dir(), folder(bench)) for path in place.glob("*.raw")]
        assert everywhere.count(b"mine") == 1 and everywhere.count(b"kept") == 1, "nothing is lost, nothing is there twice"
    assert cut == (nth < 13), "each step once, and once to the end"
    monkeypatch.undo()
    put(bench, 2, wanted, **asked)
    assert devices(bench) == ["vdc", "vde"]
    assert (folder(bench) / f"{NAME}.raw").read_bytes() == b"mine"
    assert (bench.vm_dir() / "vde.raw").read_bytes() == b"kept"
    assert [name for name in files(bench.vm_dir()) if name.startswith("vd")] == ["vdc.raw", "vde.raw"]
    assert (bench.vm_dir() / "vdc.raw").stat().st_size == 16 << 20


@pytest.mark.parametrize("nth", range(1, 9))
def test_deleted_in_the_middle_of_it_no_kept_one_is_lost(bench: Bench, nth: int) -> None:
    folder(bench).mkdir(exist_ok=True)
    (folder(bench) / "data1.raw").write_bytes(b"kept")
    put(bench, 1, EMPTY)
    (bench.vm_dir() / "vdb.raw").write_bytes(b"mine")
    with killed_at(nth, bench.service.host, "rename", "remove", "write_file", "set_mode"):
        put(
            bench,
            2,
            [{"device": "vdc", "size_mib": 1, "keep": True, "name": "data1"}],
            attached=["vdc"],
            detached=[{**EMPTY[0], "data": "keep"}],
        )
    bench.service.delete(VM)
    assert {path.name: path.read_bytes() for path in folder(bench).iterdir()} == {"data1.raw": b"kept", f"{NAME}.raw": b"mine"}


def test_what_the_manager_took_back_is_fetched_back(bench: Bench) -> None:
    """The agent kept it, nobody heard of that, and now it is the VM's again: with what is on it."""
    put(bench, 1, EMPTY)
    (bench.vm_dir() / "vdb.raw").write_bytes(b"mine")
    put(bench, 2, [], detached=[{**EMPTY[0], "data": "keep"}])
    assert put(bench, 3, EMPTY, run=True).state == "running"
    assert (bench.vm_dir() / "vdb.raw").read_bytes() == b"mine" and files(folder(bench)) == []


def test_nothing_is_attached_that_is_not_there_and_nothing_goes_and_stays(bench: Bench) -> None:
    put(bench, 1, [])
    with pytest.raises(Refused) as refused:
        put(bench, 2, KEPT, attached=["vdb"])
    assert refused.value.code == "NQR-VMM-117"
    with pytest.raises(Refused) as refused:
        put(bench, 3, EMPTY, attached=["vdb"], detached=EMPTY)
    assert refused.value.code == "NQR-API-703"
    put(bench, 4, EMPTY, attached=["vdb"])
    folder(bench).mkdir(exist_ok=True)
    (folder(bench) / f"{NAME}.raw").write_bytes(b"somebody's")
    with pytest.raises(Failed) as failed:
        put(bench, 5, [], detached=[{**EMPTY[0], "data": "keep"}])
    assert failed.value.code == "NQR-VMM-118"
    assert (folder(bench) / f"{NAME}.raw").read_bytes() == b"somebody's" and (bench.vm_dir() / "vdb.raw").exists()
