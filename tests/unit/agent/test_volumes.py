"""Kept volumes: one VM has one, its data is never lost, and names lead nowhere else."""

from __future__ import annotations

import pytest

from nqrust.agent import volumes
from nqrust.agent.errors import Failed, Refused
from nqrust.contract.api.volumes import KeptVolume

from .conftest import VM, Bench

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


def test_a_volume_is_never_put_over_another(bench: Bench) -> None:
    bench.service.put(bench.spec(volumes=EMPTY, run=False))
    folder = bench.root / "fc" / "volumes"
    folder.mkdir()
    (folder / f"{NAME}.raw").write_bytes(b"somebody's")
    with pytest.raises(Failed) as failed:
        bench.service.delete(VM)
    assert failed.value.code == "NQR-VMM-118"
    assert (folder / f"{NAME}.raw").read_bytes() == b"somebody's"
    assert (bench.vm_dir() / "vdb.raw").exists()


def test_a_disk_that_somebody_put_there_can_be_attached_and_other_files_are_not_seen(bench: Bench) -> None:
    folder = bench.root / "fc" / "volumes"
    folder.mkdir()
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
