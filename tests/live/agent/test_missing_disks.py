"""The agent never makes a second disk for a VM: the first may be on a file system that is not mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from nqrust.agent.errors import NotFound, Refused
from nqrust.agent.vms.snapshots import Snapshots
from nqrust.contract.agent import DISK_MISSING
from nqrust.contract.names import kept_volume_name
from nqrust.contract.vms import StopRequest

from .conftest import VM, Bench

OTHER = "7d0c2b1e-92a1-4c7e-8f3a-2b6f5a1c9d10"
VOLUME = [{"device": "vdb", "size_mib": 16, "keep": False}]


def files(bench: Bench) -> list[str]:
    return sorted(str(path.relative_to(bench.root)) for path in Path(bench.root, "fc").rglob("*"))


@pytest.mark.parametrize("run", [True, False])
def test_a_vm_whose_disk_is_not_mounted_gets_no_new_one(bench: Bench, run: bool) -> None:
    bench.service.put(bench.spec(volumes=VOLUME))
    bench.service.stop(VM, StopRequest())
    disk, away = bench.vm_dir() / "disk.ext4", bench.root / "not mounted"
    content, starts = disk.read_bytes(), len(bench.scopes.spawned)
    bench.vm_dir().rename(away)
    before = files(bench)
    with pytest.raises(Refused) as refused:
        bench.service.put(bench.spec(volumes=VOLUME, made=True, run=run, generation=2))
    assert refused.value.code == DISK_MISSING
    assert f"Mount the file system of {bench.root}/fc" in refused.value.cure
    assert files(bench) == before and len(bench.scopes.spawned) == starts, "nothing is made or started"
    away.rename(bench.vm_dir())
    status = bench.service.put(bench.spec(volumes=VOLUME, made=True, generation=2))
    assert status.state == "running" and disk.read_bytes() == content


def test_a_lost_disk_is_not_replaced(bench: Bench) -> None:
    bench.service.put(bench.spec())
    bench.service.stop(VM, StopRequest())
    (bench.vm_dir() / "disk.ext4").unlink()
    for _ in range(2):
        bench.service.put(bench.spec(made=True, run=False))
        with pytest.raises(Refused) as refused:
            bench.service.put(bench.spec(made=True))
        assert refused.value.code == DISK_MISSING
    bench.service.delete(VM)
    assert not bench.vm_dir().exists()


@pytest.fixture
def lost(bench: Bench) -> Bench:
    """A VM with a snapshot and a volume without the mark, whose own disk is lost."""
    bench.service.put(bench.spec(volumes=VOLUME))
    bench.service.stop(VM, StopRequest(force=True))
    (bench.vm_dir() / "vdb.raw").write_bytes(b"then")
    Snapshots(bench.service).create(VM, "a", "r1")
    (bench.vm_dir() / "vdb.raw").write_bytes(b"mine")
    (bench.vm_dir() / "disk.ext4").unlink()
    return bench


def test_a_snapshot_brings_a_lost_disk_back(lost: Bench) -> None:
    saved = (lost.vm_dir() / "snapshots" / "a" / "disk.ext4").read_bytes()
    assert Snapshots(lost.service).restore(VM, "a").disk
    assert (lost.vm_dir() / "disk.ext4").read_bytes() == saved and (lost.vm_dir() / "vdb.raw").read_bytes() == b"then"
    assert lost.service.put(lost.spec(volumes=VOLUME, made=True, generation=2)).state == "running"


def test_volumes_leave_a_vm_whose_disk_is_lost(lost: Bench) -> None:
    """And a snapshot then still has a disk for it, of the image that its disk was made of."""
    newer = lost.image.model_copy(update={"root_device": "/dev/vda1"})
    going = [{**VOLUME[0], "data": "keep"}]
    status = lost.service.put(lost.spec(detached=going, made=True, run=False, generation=2, image=newer))
    assert (status.state, status.disk) == ("stopped", False)
    kept = lost.root / "fc" / "volumes" / f"{kept_volume_name('web1', 'vdb', VM)}.raw"
    assert kept.read_bytes() == b"mine"
    record = lost.service.store.read(VM)
    assert record is not None and record.image == lost.image
    assert Snapshots(lost.service).restore(VM, "a").disk


def test_a_lost_volume_is_not_made_empty_for_a_vm_without_its_disk(lost: Bench) -> None:
    (lost.vm_dir() / "vdb.raw").unlink()
    lost.service.put(lost.spec(volumes=VOLUME, made=True, run=False, generation=2))
    assert not (lost.vm_dir() / "vdb.raw").exists()


def test_the_cure_for_a_lost_disk_says_what_a_delete_loses(lost: Bench) -> None:
    with pytest.raises(Refused) as refused:
        lost.service.put(lost.spec(volumes=VOLUME, made=True))
    cure = refused.value.cure
    assert cure.index("snapshot") < cure.index("volume detach --keep") < cure.index("A delete of the VM deletes its snapshots")
    with pytest.raises(NotFound) as missing:
        Snapshots(lost.service).create(VM, "b", "r2")
    assert missing.value.code == "NQR-API-702" and "a lost one" in missing.value.cure


def test_an_earlier_manager_does_not_tell_and_gets_a_disk(bench: Bench) -> None:
    assert bench.service.put(bench.spec(made=False)).disk


def test_disks_that_are_restored_alone_are_the_vms_again(bench: Bench) -> None:
    """Its record stays away: it names a user, which another VM of a new machine has by now."""
    bench.service.put(bench.spec(volumes=VOLUME))
    bench.service.stop(VM, StopRequest())
    backup = bench.root / "backup"
    bench.vm_dir().rename(backup)
    other = bench.service.put(bench.spec(OTHER, name="web2", ip="10.0.0.21"))
    bench.vm_dir().mkdir(mode=0o710)
    for name in ("disk.ext4", "vdb.raw"):
        (bench.vm_dir() / name).write_bytes((backup / name).read_bytes())
    assert bench.service.status(VM).disk
    for _ in range(2):
        status = bench.service.put(bench.spec(volumes=VOLUME, made=True, generation=7))
        assert (status.state, status.generation) == ("running", 7)
        bench.service.stop(VM, StopRequest())
    users = {record.user for record in bench.service.store.all()}
    assert len(users) == 2 and bench.service.status(other.id).state == "running"
