"""A restore that is asked for again, because its answer was late or lost, or its agent was killed."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from nqrust.agent.api.app import Verbs
from nqrust.agent.errors import Refused
from nqrust.agent.vmm.port import Capabilities, RunState
from nqrust.agent.vms.snapshots import Snapshots
from nqrust.contract.vms import StopRequest

from .conftest import VM, Bench, killed_at

VOLUMES = [{"device": "vdb", "size_mib": 16, "keep": False}]
STEPS = ("copy_file", "rename", "write_file", "mkdir")


def of_memory(bench: Bench) -> Snapshots:
    """A snapshot `live` with memory, and its VM stopped."""
    bench.vmm.capabilities = Capabilities(frozenset({"tcg"}), snapshot=True)
    snapshots = Snapshots(bench.service)
    bench.service.put(bench.spec(volumes=VOLUMES))
    snapshots.create(VM, "live")
    bench.service.stop(VM, StopRequest())
    return snapshots


def of_disks(bench: Bench) -> tuple[Snapshots, Path]:
    """A snapshot `before` of disks, and a disk that changed since."""
    snapshots, disk = Snapshots(bench.service), bench.vm_dir() / "disk.ext4"
    bench.service.put(bench.spec(volumes=VOLUMES, run=False))
    disk.write_bytes(b"old")
    snapshots.create(VM, "before")
    disk.write_bytes(b"new")
    return snapshots, disk


def test_a_repeated_request_leaves_the_guest_that_resumed(bench: Bench) -> None:
    snapshots = of_memory(bench)
    assert snapshots.restore(VM, "live", request="one").state == "running"
    assert snapshots.restore(VM, "live", request="one").state == "running"
    assert len(bench.vmm.loaded) == 1
    for request in ("two", ""):  # another restore, and one of an earlier manager
        with pytest.raises(Refused) as refused:
            snapshots.restore(VM, "live", request=request)
        assert refused.value.code == "NQR-VMM-113"


def test_a_guest_that_ended_since_its_restore_is_not_set_back_again(bench: Bench) -> None:
    snapshots = of_memory(bench)
    snapshots.restore(VM, "live", request="one")
    bench.scopes.alive.clear()
    assert snapshots.restore(VM, "live", request="one").state != "running"
    assert len(bench.vmm.loaded) == 1


def test_a_repeated_request_copies_no_disk_again(bench: Bench) -> None:
    snapshots, disk = of_disks(bench)
    snapshots.restore(VM, "before", request="one")
    disk.write_bytes(b"newer")
    assert snapshots.restore(VM, "before", request="one").state == "stopped"
    assert disk.read_bytes() == b"newer"
    snapshots.restore(VM, "before", request="two")
    assert disk.read_bytes() == b"old"


def test_a_record_of_an_earlier_version_knows_no_restore(bench: Bench) -> None:
    snapshots, disk = of_disks(bench)
    record = bench.vm_dir() / "vm.json"
    text = "\n".join(line for line in record.read_text().splitlines() if '"restored"' not in line and '"resuming"' not in line)
    record.write_text(text)
    snapshots.restore(VM, "before", request="one")
    assert disk.read_bytes() == b"old"


@pytest.mark.parametrize("nth", range(1, 13))
def test_a_restore_whose_agent_was_killed_is_repeated(bench: Bench, nth: int) -> None:
    snapshots = of_memory(bench)
    disk, volume = bench.vm_dir() / "disk.ext4", bench.vm_dir() / "vdb.raw"
    saved = disk.read_bytes(), volume.read_bytes()
    disk.write_bytes(b"new disk")
    volume.write_bytes(b"new volume")
    with killed_at(nth, bench.service.host, *STEPS):
        snapshots.restore(VM, "live", 5, "one")
    assert snapshots.restore(VM, "live", 5, "one").state == "running"
    assert (disk.read_bytes(), volume.read_bytes()) == saved
    record = bench.service.store.read(VM)
    assert record is not None and (record.restored, record.resuming) == ("one", False)


@pytest.mark.parametrize(("state", "loaded"), [(RunState.running, 1), (RunState.paused, 2), (RunState.unconfigured, 2)])
def test_only_a_guest_that_resumed_counts_after_a_kill(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, state: RunState, loaded: int
) -> None:
    """The agent was killed before it could write down that the guest resumed."""
    snapshots = of_memory(bench)
    snapshots.restore(VM, "live", request="one")
    record = bench.service.store.read(VM)
    assert record is not None
    bench.service.store.write(record.model_copy(update={"resuming": True}))
    first = bench.service.status(VM).pids
    reported = bench.vmm.state
    monkeypatch.setattr(bench.vmm, "state", lambda path: state if _pids(bench) == first else reported(path))
    assert snapshots.restore(VM, "live", request="one").state == "running"
    assert len(bench.vmm.loaded) == loaded


def _pids(bench: Bench) -> list[int]:
    scope = bench.scopes.get(VM)
    return [process.pid for process in scope.vmm] if scope else []


async def test_a_request_that_is_repeated_meanwhile_waits_for_the_first(bench: Bench) -> None:
    snapshots, load, loading, go, verbs = of_memory(bench), bench.vmm.load, threading.Event(), threading.Event(), Verbs()

    def slow(*arguments: Any) -> None:
        loading.set()
        assert go.wait(10)
        load(*arguments)

    bench.vmm.load = slow  # type: ignore[method-assign]
    both = [asyncio.create_task(verbs.on_vm(VM, lambda: snapshots.restore(VM, "live", 5, "one"))) for _ in range(2)]
    assert await asyncio.to_thread(loading.wait, 10)
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in both)
    go.set()
    assert [(await task).state for task in both] == ["running", "running"]
    assert len(bench.vmm.loaded) == 1
