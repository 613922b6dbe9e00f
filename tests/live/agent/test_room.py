"""VMs whose VMM stopped them because their host's disk is full."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.live.agent.conftest import VM, Bench

from nqrust.agent.disks import reserve
from nqrust.agent.errors import Conflict, Failed
from nqrust.agent.scopes import launch
from nqrust.agent.server import Agent
from nqrust.agent.vmm.port import Machine
from nqrust.agent.vms import room
from nqrust.agent.vms.snapshots import Snapshots
from nqrust.contract.vms import StopRequest
from nqrust.host.errors import NoSpace
from nqrust.host.local import LocalHost
from nqrust.host.port import DiskUsage

MIB = 1 << 20
FULL, ROOM = 3 * MIB, 600 * MIB


def no_space(self: LocalHost, path: str, *rest: object, **more: object) -> None:
    raise NoSpace(path, "No space left on device")


@pytest.fixture
def available(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the file system of the VMs has left, in bytes, of 100 GiB."""
    left = [ROOM]
    usage = lambda self, path: DiskUsage(total=100 << 30, available=left[0], inodes_available=1000, read_only=False)  # noqa: E731
    monkeypatch.setattr(LocalHost, "disk_usage", usage)
    return left


@pytest.fixture
def halted(bench: Bench, available: list[int]) -> Bench:
    """A running VM that its VMM stopped."""
    bench.service.put(bench.spec())
    bench.vmm.without_room.add(str(bench.vm_dir()))
    available[0] = FULL
    return bench


def look(bench: Bench) -> list[str]:
    return [vm for vm in room.may_wait(bench.service) if room.go_on(bench.service, vm)]


def test_a_vm_without_room_is_paused_and_says_why(halted: Bench) -> None:
    status = halted.service.status(VM)
    assert (status.state, status.exit_reason) == ("paused", "The disk of host h1 is full. The VM continues when there is room.")
    assert halted.service.inventory(None).vms[0].waits_for_room


def test_it_goes_on_once_there_is_room_and_not_before(halted: Bench, available: list[int]) -> None:
    assert look(halted) == []
    available[0] = reserve.RESERVE - 1
    assert look(halted) == [], "a few free blocks would be full again at once"
    available[0] = ROOM
    assert look(halted) == [VM]
    status = halted.service.status(VM)
    assert (status.state, status.exit_reason) == ("running", "")
    assert look(halted) == []


def test_a_small_disk_needs_a_twentieth(halted: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [4 * MIB]
    usage = lambda self, path: DiskUsage(total=100 * MIB, available=left[0], inodes_available=1000, read_only=False)  # noqa: E731
    monkeypatch.setattr(LocalHost, "disk_usage", usage)
    assert look(halted) == []
    left[0] = 5 * MIB
    assert look(halted) == [VM]


def test_a_pause_of_a_person_stays_whatever_happens_to_the_disk(halted: Bench, available: list[int]) -> None:
    assert halted.service.pause(VM).exit_reason == "", "now it is paused because somebody wants that"
    available[0] = ROOM
    assert look(halted) == []
    assert halted.service.status(VM).state == "paused"
    assert halted.service.resume(VM).state == "running"
    halted.vmm.without_room.add(str(halted.vm_dir()))
    assert look(halted) == [VM], "the pause is over"


def test_a_plain_pause_is_not_ended(bench: Bench, available: list[int]) -> None:
    bench.service.put(bench.spec())
    bench.service.pause(VM)
    assert look(bench) == []


def test_a_pause_ends_with_the_vms_run(halted: Bench, available: list[int]) -> None:
    halted.service.pause(VM)
    halted.service.stop(VM, StopRequest(force=True))
    halted.vmm.without_room.clear()
    halted.service.put(halted.spec())
    halted.vmm.without_room.add(str(halted.vm_dir()))
    available[0] = ROOM
    assert look(halted) == [VM]


def test_it_is_asked_to_power_off_like_others(halted: Bench) -> None:
    halted.service.stop(VM, StopRequest())
    assert halted.vmm.resumed == halted.vmm.asked == [str(halted.vm_dir())]


def test_no_snapshot_of_a_vm_without_room(halted: Bench) -> None:
    halted.vmm.capabilities = type(halted.vmm.capabilities)(frozenset({"tcg"}), snapshot=True, waits_for_room=True)
    with pytest.raises(Conflict) as refused:
        Snapshots(halted.service).create(VM, "one")
    assert refused.value.code == "NQR-VMM-120"
    assert str(halted.vm_dir()) in halted.vmm.without_room


def test_a_vm_that_finds_no_room_leaves_no_folder(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without a record would keep the files of images from leaving the full disk."""
    with monkeypatch.context() as full:
        full.setattr(LocalHost, "write_file", no_space)
        with pytest.raises(NoSpace):
            bench.service.put(bench.spec())
    assert not bench.vm_dir().exists() and bench.service.store.images() == []
    bench.vm_dir().mkdir()
    (bench.vm_dir() / "disk.ext4").write_bytes(b"of a backup")
    with monkeypatch.context() as full:
        full.setattr(LocalHost, "write_file", no_space)
        with pytest.raises(NoSpace):
            bench.service.put(bench.spec(made=True))
    assert (bench.vm_dir() / "disk.ext4").read_bytes() == b"of a backup"


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on the disk is full as an XFS is: not even for an empty file or folder is there room. Files can be renamed."""

    def fill() -> None:
        for change in ("write_file", "mkdir", "copy_file"):
            monkeypatch.setattr(LocalHost, change, no_space)

    return fill


@pytest.mark.parametrize("changed", [False, True], ids=["same settings", "settings of an older version"])
def test_the_agent_starts_on_a_full_disk(bench: Bench, full: Callable[[], None], changed: bool) -> None:
    """Its users delete what they can spare: VMs and snapshots."""
    Agent(bench.service.host, bench.service.settings)
    screenrc = bench.root / "state" / "screenrc"
    if changed:
        screenrc.write_text("startup_message off\n")
    before = screenrc.read_bytes()
    full()
    Agent(bench.service.host, bench.service.settings)
    assert screenrc.read_bytes() == before


def test_the_agent_keeps_the_settings_of_consoles(bench: Bench) -> None:
    screenrc = bench.root / "state" / "screenrc"
    screenrc.write_text("startup_message off\n")
    for _ in range(2):
        launch.prepare(bench.service.host, bench.service.settings)
        assert (screenrc.read_text(), screenrc.stat().st_mode & 0o777) == (launch.SCREENRC, 0o644)
        screenrc.chmod(0o600)


def test_a_start_that_fails_on_a_full_disk_leaves_no_tap_and_says_why(bench: Bench, full: Callable[[], None]) -> None:
    def begin(machine: Machine) -> None:
        full()
        raise Failed("NQR-VMM-105", "It does not answer.", "Try again.")

    bench.vmm.begin = begin  # type: ignore[method-assign]
    with pytest.raises(Failed, match="It does not answer"):
        bench.service.put(bench.spec())
    assert (bench.scopes.alive, bench.taps.links) == ({}, {})


def test_snapshots_and_a_vm_with_a_kept_volume_leave_a_full_disk(halted: Bench, full: Callable[[], None]) -> None:
    halted.service.stop(VM, StopRequest(force=True))
    halted.vmm.without_room.clear()
    halted.service.put(halted.spec(volumes=[{"device": "vdb", "size_mib": 1, "keep": True}], run=False, attached=["vdb"]))
    snapshots = Snapshots(halted.service)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(reserve, "RESERVE", 0)
        snapshots.create(VM, "one")
    full()
    snapshots.delete(VM, "one")
    assert snapshots.found(VM) == []
    halted.service.delete(VM)
    assert not halted.vm_dir().exists()
    assert [path.name for path in (halted.root / "fc" / "volumes").iterdir()] == [f"web1-vdb-{VM}.raw"]


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_a_full_disk_stops_nobody_who_makes_room(halted: Bench, full: Callable[[], None], verb: str) -> None:
    full()
    if verb == "delete":
        halted.service.delete(VM)
        assert not halted.vm_dir().exists()
    else:
        assert halted.service.stop(VM, StopRequest(force=True), 9).scope
    assert not halted.scopes.alive
