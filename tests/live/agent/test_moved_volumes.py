"""Volumes where VMs and kept volumes have a file system each: a copy moves them, and a kill at any moment loses nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nqrust.agent.disks import reserve
from nqrust.agent.errors import Failed
from nqrust.host.errors import NoSpace
from nqrust.host.local import LocalHost

from .conftest import VM, Bench, killed_at

NAME = f"web1-vdb-{VM}.raw"
EMPTY = {"device": "vdb", "size_mib": 16, "keep": True}
DATA = {"device": "vdb", "size_mib": 16, "keep": True, "name": "data1"}
CONTENT = b"\0" * (4 << 20) + b"mine" + b"\0" * (12 << 20)
STEPS = ("rename", "copy_file", "remove", "set_mode", "mkdir")


@pytest.fixture
def split(bench: Bench) -> Iterator[Bench]:
    vms = bench.root / "fc" / "vms"
    if os.geteuid() != 0:
        pytest.skip("needs root")
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=711", "tmpfs", str(vms)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs here")
    yield bench
    subprocess.run(["umount", str(vms)], check=True)


def kept(bench: Bench) -> Path:
    return bench.root / "fc" / "volumes"


def write(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(len(CONTENT))
        file.seek(4 << 20)
        file.write(b"mine")


def put(bench: Bench, volumes: list[dict[str, Any]], **changes: Any) -> Any:
    return bench.service.put(bench.spec(volumes=volumes, **{"run": False, **changes}))


def everywhere(bench: Bench) -> list[str]:
    """Names of the files with the content, by folder."""
    found = [path for place in (bench.vm_dir(), kept(bench)) for path in sorted(place.glob("*.raw"))]
    assert all(path.read_bytes() == CONTENT for path in found), "what has the name of a volume is whole"
    return [path.name for path in found]


def test_a_volume_is_kept_and_attached_on_another_file_system(split: Bench) -> None:
    put(split, [EMPTY])
    write(split.vm_dir() / "vdb.raw")
    split.service.delete(VM)
    there = (kept(split) / NAME).stat()
    assert everywhere(split) == os.listdir(kept(split)) == [NAME]
    assert (there.st_uid, there.st_gid, there.st_mode & 0o7777) == (0, 0, 0o600)
    assert there.st_blocks * 512 < 1 << 20, "holes stay holes"
    put(split, [{**EMPTY, "name": NAME.removesuffix(".raw")}], run=True)
    record = split.service.store.read(VM)
    volume = (split.vm_dir() / "vdb.raw").stat()
    assert everywhere(split) == ["vdb.raw"] and os.listdir(kept(split)) == []
    assert record is not None and (volume.st_uid, volume.st_mode & 0o7777) == (record.user, 0o600)
    assert volume.st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("nth", range(1, 8))
@pytest.mark.parametrize("then", ["delete", "start"])
def test_a_kill_while_a_volume_leaves_loses_nothing(split: Bench, nth: int, then: str) -> None:
    """The delete is repeated, or a detach is taken back."""
    put(split, [EMPTY])
    write(split.vm_dir() / "vdb.raw")
    kept(split).rmdir()
    with killed_at(nth, split.service.host, *STEPS):
        put(split, [], generation=2, detached=[{**EMPTY, "data": "keep"}])
    assert set(everywhere(split)) <= {"vdb.raw", NAME} and everywhere(split)
    if then == "start":
        put(split, [EMPTY], generation=3, run=True)
        assert everywhere(split) == ["vdb.raw"]
    split.service.delete(VM)
    assert everywhere(split) == os.listdir(kept(split)) == [NAME]
    split.service.delete(VM)
    assert everywhere(split) == [NAME]


@pytest.mark.parametrize("nth", range(1, 8))
@pytest.mark.parametrize("then", ["delete", "start"])
def test_a_kill_while_a_volume_comes_loses_nothing(split: Bench, nth: int, then: str) -> None:
    put(split, [])
    write(kept(split) / "data1.raw")
    with killed_at(nth, split.service.host, *STEPS):
        put(split, [DATA], generation=2, attached=["vdb"])
    assert set(everywhere(split)) <= {"vdb.raw", "data1.raw"} and everywhere(split)
    if then == "start":
        put(split, [DATA], generation=2, attached=["vdb"], run=True)
        assert everywhere(split) == ["vdb.raw"] and os.listdir(kept(split)) == []
    split.service.delete(VM)
    assert everywhere(split) == os.listdir(kept(split)) == ["data1.raw"]


@pytest.mark.parametrize("way", ["comes", "leaves"])
def test_a_volume_is_not_moved_into_the_room_that_vms_need(split: Bench, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    put(split, [EMPTY] if way == "leaves" else [])
    source = split.vm_dir() / "vdb.raw" if way == "leaves" else kept(split) / "data1.raw"
    write(source)
    with monkeypatch.context() as full:
        full.setattr(reserve, "RESERVE", 1 << 60)
        full.setattr(reserve, "PART", 1)
        with pytest.raises(NoSpace):
            split.service.delete(VM) if way == "leaves" else put(split, [DATA], generation=2, attached=["vdb"])
    assert everywhere(split) == [source.name]
    if way == "comes":
        put(split, [DATA], generation=2, attached=["vdb"])
    split.service.delete(VM)
    assert everywhere(split) == os.listdir(kept(split)) == [NAME if way == "leaves" else "data1.raw"]


def test_a_copy_of_a_person_is_nobodys_remains(split: Bench) -> None:
    put(split, [EMPTY])
    for path in (split.vm_dir() / "vdb.raw", kept(split) / NAME):
        write(path)
    put(split, [EMPTY])
    with pytest.raises(Failed) as failed:
        split.service.delete(VM)
    assert failed.value.code == "NQR-VMM-118" and everywhere(split) == ["vdb.raw", NAME]


def test_another_failure_of_a_move_is_told(split: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    put(split, [EMPTY])

    def no(self: LocalHost, source: str, target: str) -> None:
        raise NoSpace(target, "the quota is used up")

    monkeypatch.setattr(LocalHost, "rename", no)
    with pytest.raises(NoSpace):
        split.service.delete(VM)
    assert (split.vm_dir() / "vdb.raw").exists()
