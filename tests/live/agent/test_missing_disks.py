"""The agent never makes a second disk for a VM: the first may be on a file system that is not mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from nqrust.agent.errors import Refused
from nqrust.contract.agent import DISK_MISSING
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
        with pytest.raises(Refused) as refused:
            bench.service.put(bench.spec(made=True))
        assert refused.value.code == DISK_MISSING
    bench.service.delete(VM)
    assert not bench.vm_dir().exists()


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
