"""Volumes that a request or a record does not name: the manager's database was restored, or the record cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nqrust.agent.errors import Refused
from nqrust.contract.names import kept_volume_name
from nqrust.contract.vms import StopRequest
from nqrust.contract.volumes import KeptVolume

from .conftest import VM, Bench, killed_at

UNMARKED = {"device": "vdc", "size_mib": 16, "keep": False, "kept_as": f"web1-vdc-{VM}-7"}
DATA = [{"device": "vdb", "size_mib": 1, "keep": True, "name": "data1"}]
LOST = f"lost-vdb-{VM}.raw"


def folder(bench: Bench) -> Path:
    return bench.root / "fc" / "volumes"


def put(bench: Bench, generation: int, volumes: list[dict[str, Any]], **changes: Any) -> Any:
    return bench.service.put(bench.spec(generation=generation, volumes=volumes, **{"run": False, **changes}))


def devices(bench: Bench) -> list[str]:
    record = bench.service.store.read(VM)
    return [volume.device for volume in record.volumes] if record else []


def with_data(bench: Bench, **changes: Any) -> None:
    """The VM has the kept volume data1."""
    folder(bench).mkdir(exist_ok=True)
    (folder(bench) / "data1.raw").write_bytes(b"mine")
    put(bench, 7, DATA, attached=["vdb"], **changes)


def kept(bench: Bench) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder(bench).iterdir()}


@pytest.mark.parametrize("run", [False, True])
def test_a_volume_that_a_request_leaves_out_is_kept(bench: Bench, run: bool) -> None:
    with_data(bench)
    put(bench, 9, [], run=run)
    assert devices(bench) == [] and kept(bench) == {"data1.raw": b"mine"}
    assert bench.service.inventory(None).volumes == [KeptVolume(name="data1", size_mib=1)]
    bench.service.delete(VM)
    assert kept(bench) == {"data1.raw": b"mine"}


def test_a_volume_without_a_mark_that_a_request_leaves_out_is_kept(bench: Bench) -> None:
    put(bench, 1, [UNMARKED])
    (bench.vm_dir() / "vdc.raw").write_bytes(b"mine")
    put(bench, 2, [])
    bench.service.delete(VM)
    assert kept(bench) == {f"{UNMARKED['kept_as']}.raw": b"mine"}


def test_a_new_volume_is_not_the_one_that_had_its_letter(bench: Bench) -> None:
    with_data(bench)
    for _ in range(2):
        put(bench, 9, [{"device": "vdb", "size_mib": 2, "keep": False}], attached=["vdb"])
        assert (bench.vm_dir() / "vdb.raw").stat().st_size == 2 << 20
    bench.service.delete(VM)
    assert kept(bench) == {"data1.raw": b"mine"}


def test_a_volume_of_another_name_takes_its_place(bench: Bench) -> None:
    with_data(bench)
    (folder(bench) / "data2.raw").write_bytes(b"former")
    put(bench, 9, [{**DATA[0], "name": "data2"}])
    assert (bench.vm_dir() / "vdb.raw").read_bytes() == b"former" and kept(bench) == {"data1.raw": b"mine"}


def test_a_volume_that_goes_takes_no_other_of_its_letter_along(bench: Bench) -> None:
    with_data(bench)
    put(bench, 9, [], detached=[{"device": "vdb", "size_mib": 2, "keep": False, "data": "delete"}])
    assert kept(bench) == {"data1.raw": b"mine"}


def test_a_vm_that_runs_keeps_the_name_of_its_volume(bench: Bench) -> None:
    with_data(bench, run=True)
    with pytest.raises(Refused) as refused:
        put(bench, 9, [{"device": "vdb", "size_mib": 1, "keep": False}], run=True)
    assert refused.value.code == "NQR-VMM-119"
    bench.service.delete(VM)
    assert kept(bench) == {"data1.raw": b"mine"}


@pytest.mark.parametrize("run", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_a_vm_that_gets_another_name_has_its_volume_on(bench: Bench, keep: bool, run: bool) -> None:
    """As `nqr vm adopt --name` does it."""
    volume = {"device": "vdb", "size_mib": 16, "keep": keep}
    put(bench, 1, [volume], run=run)
    (bench.vm_dir() / "vdb.raw").write_bytes(b"mine")
    old = kept_volume_name("web1", "vdb", VM)
    its = [{**volume, "kept_as": old}]
    for generation in (2, 3):
        assert put(bench, generation, its, name="web2", run=run).name == "web2"
    assert (bench.vm_dir() / "vdb.raw").read_bytes() == b"mine" and kept(bench) == {}
    bench.service.stop(VM, StopRequest(force=True))
    put(bench, 4, [], name="web2", detached=[{**its[0], "data": "keep"}])
    assert kept(bench) == {f"{old}.raw": b"mine"}


@pytest.mark.parametrize("nth", range(1, 6))
def test_a_volume_that_is_left_out_is_never_lost(bench: Bench, nth: int) -> None:
    with_data(bench)
    with killed_at(nth, bench.service.host, "rename", "remove", "write_file", "set_mode"):
        put(bench, 9, [])
    bench.service.delete(VM)
    assert kept(bench) == {"data1.raw": b"mine"}


@pytest.mark.parametrize("ask", ["delete", "put", "attach"])
def test_a_file_that_no_record_names_is_kept(bench: Bench, ask: str) -> None:
    """An earlier version left such files."""
    put(bench, 1, [])
    (bench.vm_dir() / "vdb.raw").write_bytes(b"mine")
    if ask == "put":
        put(bench, 2, [])
    elif ask == "attach":
        put(bench, 2, [{"device": "vdb", "size_mib": 16, "keep": False}], attached=["vdb"])
        assert (bench.vm_dir() / "vdb.raw").stat().st_size == 16 << 20
    bench.service.delete(VM)
    assert kept(bench) == {LOST: b"mine"}
    assert [volume.name for volume in bench.service.inventory(None).volumes] == [LOST.removesuffix(".raw")]


def test_a_vm_whose_record_cannot_be_read_leaves_its_volumes(bench: Bench) -> None:
    with_data(bench)
    (bench.vm_dir() / "vm.json").write_text('{"of": "a newer version"}')
    bench.service.delete(VM)
    bench.service.delete(VM)
    assert kept(bench) == {LOST: b"mine"} and not bench.vm_dir().exists()


def test_a_record_that_cannot_be_read_is_made_anew_and_no_volume_is_lost(bench: Bench) -> None:
    two = [*DATA, UNMARKED]
    with_data(bench)
    put(bench, 8, two, attached=["vdc"])
    (bench.vm_dir() / "vdc.raw").write_bytes(b"later")
    (bench.vm_dir() / "vm.json").write_text("{")
    put(bench, 9, [UNMARKED])
    assert (bench.vm_dir() / "vdc.raw").read_bytes() == b"later"
    bench.service.delete(VM)
    assert kept(bench) == {LOST: b"mine"}
