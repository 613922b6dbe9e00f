"""The verbs, on real files with scopes and a VMM in memory: asked twice is asked once, and nothing stays behind."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pydantic import ValidationError

from nqrust.agent.errors import AgentError, Conflict, Failed, NotFound, Refused
from nqrust.agent.vms import upkeep
from nqrust.contract.credentials import hash_token
from nqrust.contract.names import tap_name
from nqrust.contract.vms import GuestReport, PortForward, StopRequest
from nqrust.host.port import command

from .conftest import VM, Bench


def content(bench: Bench, path: str) -> str:
    disk = str(bench.vm_dir() / "disk.ext4")
    return bench.service.host.run(command("debugfs", "-R", f"cat {path}", disk)).stdout


def test_put_makes_a_vm_that_runs(bench: Bench) -> None:
    status = bench.service.put(bench.spec())
    assert (status.state, status.name, status.ip, status.tap) == ("running", "web1", "10.0.0.20", tap_name(VM))
    assert (status.vmm, status.accel) == ("qemu", "tcg")
    assert status.pids
    assert status.disk
    assert content(bench, "/etc/hostname") == "web1\n"
    assert (bench.root / "dhcp" / "hosts.d" / VM).read_text() == f"{bench.spec().mac},10.0.0.20,web1\n"


def test_agent_creates_one_vm_for_two_equal_requests(bench: Bench) -> None:
    first = bench.service.put(bench.spec())
    disk = (bench.vm_dir() / "disk.ext4").stat()
    again = bench.service.put(bench.spec(guest_token="another"))
    assert again.pids == first.pids
    assert len(bench.scopes.spawned) == 1
    assert (bench.vm_dir() / "disk.ext4").stat().st_mtime_ns == disk.st_mtime_ns
    assert bench.service.guests.admits(VM, "token-1"), "the running guest's token must go on working"


def test_the_guests_token_is_kept_as_its_hash_only(bench: Bench) -> None:
    bench.service.put(bench.spec())
    record = (bench.vm_dir() / "vm.json").read_text()
    assert "token-1" not in record
    assert hash_token("token-1") in record
    assert (bench.vm_dir() / "vm.json").stat().st_mode & 0o777 == 0o600
    assert bench.vm_dir().stat().st_mode & 0o777 == 0o710, "the VM's user passes through it"


def test_agent_refuses_an_older_generation(bench: Bench) -> None:
    bench.service.put(bench.spec(generation=3))
    with pytest.raises(Conflict) as refused:
        bench.service.put(bench.spec(generation=2))
    assert refused.value.code == "NQR-API-705"


def test_every_verb_that_changes_whether_it_runs_keeps_its_generation(bench: Bench) -> None:
    """So that a manager with a restored database sees that its row is older, and can undo nothing until it has."""
    service = bench.service
    service.put(bench.spec(generation=3))
    assert service.pause(VM, 4).generation == 4
    assert service.resume(VM, 5).generation == 5
    for older in (lambda: service.pause(VM, 4), lambda: service.stop(VM, StopRequest(), 4)):
        with pytest.raises(Conflict) as refused:
            older()
        assert refused.value.code == "NQR-API-705"
    assert service.status(VM).state == "running" and not bench.vmm.asked
    assert service.stop(VM, StopRequest(), 6).generation == 6
    with pytest.raises(Conflict):
        service.put(bench.spec(generation=5))
    assert service.stop(VM, StopRequest()).generation == 6, "without one nothing is told"


def test_prepare_only_starts_nothing(bench: Bench) -> None:
    status = bench.service.put(bench.spec(run=False))
    assert (status.state, status.disk) == ("stopped", True)
    assert not bench.scopes.spawned
    assert not bench.taps.links


def test_a_graceful_stop_asks_the_guest_and_keeps_disk_and_address(bench: Bench) -> None:
    bench.service.put(bench.spec())
    status = bench.service.stop(VM, StopRequest())
    assert (status.state, status.exit_reason, status.tap, status.disk) == ("stopped", "", None, True)
    assert bench.vmm.asked
    assert (bench.root / "dhcp" / "hosts.d" / VM).exists()
    assert bench.service.stop(VM, StopRequest()).state == "stopped"


def test_a_guest_that_does_not_listen_is_ended(bench: Bench) -> None:
    bench.service.put(bench.spec())
    bench.vmm.deaf = True
    assert bench.service.stop(VM, StopRequest(timeout_seconds=0)).state == "stopped"
    bench.service.put(bench.spec())
    assert bench.service.stop(VM, StopRequest(timeout_seconds=1)).state == "stopped"


def test_forced_stop_does_not_ask_the_guest(bench: Bench) -> None:
    bench.service.put(bench.spec())
    assert bench.service.stop(VM, StopRequest(force=True)).state == "stopped"
    assert not bench.vmm.asked


def test_pause_and_resume(bench: Bench) -> None:
    bench.service.put(bench.spec())
    assert bench.service.pause(VM).state == "paused"
    assert bench.service.pause(VM).state == "paused"
    assert bench.service.resume(VM).state == "running"
    bench.service.pause(VM)
    assert bench.service.put(bench.spec()).state == "running", "make it run means resume it"
    bench.service.stop(VM, StopRequest())
    with pytest.raises(Conflict):
        bench.service.pause(VM)


def test_delete_leaves_nothing_and_may_be_repeated(bench: Bench) -> None:
    bench.service.put(bench.spec())
    bench.service.delete(VM)
    assert not bench.scopes.alive
    assert not bench.taps.links
    assert not bench.vm_dir().exists()
    assert not list((bench.root / "dhcp" / "hosts.d").iterdir())
    assert not list((bench.root / "fc" / "images-cache").iterdir())
    bench.service.delete(VM)
    with pytest.raises(NotFound):
        bench.service.status(VM)


def test_kernels_in_use_outlive_the_image(bench: Bench) -> None:
    other = "1b8f0c3e-5f0e-4a53-9f4e-6a1d2a8f7c12"
    bench.service.put(bench.spec())
    bench.service.put(bench.spec(other, name="web2", ip="10.0.0.21"))
    bench.service.stop(VM, StopRequest())
    bench.service.delete(other)
    for file in (bench.root / "images" / "tiny").iterdir():
        file.unlink()
    assert bench.service.put(bench.spec()).state == "running"


def test_a_vm_that_died_is_told_from_one_that_was_stopped(bench: Bench) -> None:
    bench.service.put(bench.spec())
    bench.scopes.alive.clear()
    gone = bench.service.status(VM)
    assert gone.state == "failed"
    assert "without an exit status" in gone.exit_reason
    (bench.vm_dir() / "exit-status").write_text("0\n")
    assert bench.service.status(VM).state == "stopped"
    (bench.vm_dir() / "console.log").write_bytes(b"[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n")
    panicked = bench.service.status(VM)
    assert (panicked.state, "Unable to mount root fs" in panicked.exit_reason) == ("failed", True)
    (bench.vm_dir() / "console.log").write_bytes(b"Kernel panic - not syncing: \0\x1b[2Joh \xff\r\n")
    assert bench.service.status(VM).exit_reason == "The guest's kernel panicked: \ufffd\ufffd[2Joh \ufffd", (
        "a guest can print that"
    )
    (bench.vm_dir() / "exit-status").write_text("1\n")
    (bench.vm_dir() / "console.log").write_bytes(b"out of \0 luck\r\n")
    assert bench.service.status(VM).exit_reason == "The VMM exited with 1: out of \ufffd luck"
    (bench.vm_dir() / "exit-status").write_text("137\n")
    assert bench.service.status(VM).exit_reason == "The VMM ended after signal 9."
    assert bench.service.put(bench.spec()).state == "running"


def test_without_the_bridge_no_vmm_starts(bench: Bench) -> None:
    bench.taps.no_bridge = True
    with pytest.raises(Failed, match="bridge"):
        bench.service.put(bench.spec())
    assert bench.scopes.alive == {}
    bench.taps.no_bridge = False
    assert bench.service.put(bench.spec()).state == "running" and bench.taps.links


def test_a_start_that_fails_leaves_no_forward(bench: Bench) -> None:
    spec = bench.spec(forwards=[PortForward(host_port=8080, guest_port=80)])
    bench.vmm.broken = True
    with pytest.raises(Failed):
        bench.service.put(spec)
    assert not bench.forwards.drawn and bench.taps.links == {}
    bench.vmm.broken = False
    bench.service.put(spec)
    assert bench.forwards.drawn == [(VM, 8080, 80)]


def test_a_start_that_fails_takes_back_what_it_did(bench: Bench) -> None:
    bench.vmm.broken = True
    with pytest.raises(Failed):
        bench.service.put(bench.spec())
    assert not bench.scopes.alive
    assert not bench.taps.links
    assert bench.service.status(VM).state == "stopped"
    bench.vmm.broken = False
    assert bench.service.put(bench.spec()).state == "running"


def test_a_start_that_ends_with_an_error_that_nobody_foresaw_leaves_no_vmm(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(machine: object) -> None:
        raise OverflowError

    with monkeypatch.context() as patch:
        patch.setattr(bench.service.drivers[bench.service.verdict().vmm], "begin", break_down)
        with pytest.raises(OverflowError):
            bench.service.put(bench.spec())
    assert not bench.scopes.alive and not bench.taps.links
    assert bench.service.status(VM).state == "stopped"
    assert bench.service.put(bench.spec()).state == "running"


def test_an_image_with_another_sha256_never_becomes_a_disk(bench: Bench) -> None:
    image = bench.root / "images" / "tiny" / "rootfs.ext4"
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    with pytest.raises(Failed) as failed:
        bench.service.put(bench.spec())
    assert failed.value.code == "NQR-IMG-101"
    assert not (bench.vm_dir() / "disk.ext4").exists()


def test_a_guest_report_belongs_to_its_boot(bench: Bench) -> None:
    bench.service.put(bench.spec())
    report = GuestReport(ip="10.0.0.20", boot_id="b1")
    bench.service.guests.record(VM, report, datetime.now(timezone.utc))
    assert bench.service.status(VM).guest == report
    bench.service.stop(VM, StopRequest())
    assert bench.service.status(VM).guest is None
    bench.service.put(bench.spec())
    assert bench.service.status(VM).guest is None, "what the last boot said is not true of this one"
    bench.service.guests.record(VM, report, datetime.fromtimestamp(1_000, timezone.utc) - timedelta(seconds=5))
    assert bench.service.status(VM).guest is None


def test_a_report_survives_the_agent(bench: Bench) -> None:
    from nqrust.agent.vms.guests import GuestBook

    bench.service.put(bench.spec())
    bench.service.guests.record(VM, GuestReport(ip="10.0.0.20", boot_id="b1"), datetime.now(timezone.utc))
    note = GuestBook(bench.service.store).note(VM)
    assert note is not None
    assert note.report.boot_id == "b1"


def test_a_guest_makes_one_write_a_second_and_its_last_word_is_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.service.put(bench.spec())
    store, begin = bench.service.store, datetime(2026, 1, 1, tzinfo=timezone.utc)
    written: list[str] = []
    write = store.write_guest
    monkeypatch.setattr(store, "write_guest", lambda vm, note: (written.append(note.report.boot_id), write(vm, note)))
    for number in range(100):
        at = begin + timedelta(milliseconds=number * 20)
        bench.service.guests.record(VM, GuestReport(ip="10.0.0.20", boot_id=f"b{number}"), at)
        note = bench.service.guests.note(VM)
        assert note is not None and note.report.boot_id == f"b{number}"
    assert written == ["b0", "b50"]
    for second in (3, 4):
        bench.service.guests.record(VM, GuestReport(ip="10.0.0.20", boot_id="b99"), begin + timedelta(seconds=second))
    assert written == ["b0", "b50", "b99"]


def test_the_inventory_names_scopes_disks_and_taps(bench: Bench) -> None:
    bench.service.put(bench.spec())
    stray = "2b8f0c3e-5f0e-4a53-9f4e-6a1d2a8f7c13"
    bench.scopes.spawn(type(bench.scopes.spawned[0])(stray, "?", ("x",), "/nowhere", 1_900_000_000))
    bench.taps.links["tapffffffffff0"] = "gone"
    found = bench.service.inventory("h1")
    assert {vm.id: (vm.state, vm.disk) for vm in found.vms} == {VM: ("running", True), stray: ("running", False)}
    assert {tap.name for tap in found.taps} == {tap_name(VM), "tapffffffffff0"}
    assert found.host_id == "h1"


def test_only_orphan_taps_are_removed(bench: Bench) -> None:
    bench.service.put(bench.spec())
    with pytest.raises(Conflict) as refused:
        bench.service.delete_tap(tap_name(VM))
    assert refused.value.code == "NQR-API-708"
    bench.taps.links["tapffffffffff0"] = "gone"
    bench.service.delete_tap("tapffffffffff0")
    bench.service.delete_tap("tapffffffffff0")
    assert "tapffffffffff0" not in bench.taps.links


def test_the_tap_of_a_guest_that_powered_off_is_idle(bench: Bench) -> None:
    bench.service.put(bench.spec())
    assert upkeep.idle_taps(bench.service) == []
    bench.scopes.alive.clear()
    assert upkeep.idle_taps(bench.service) == [(tap_name(VM), VM)]
    bench.service.put(bench.spec())
    upkeep.remove_idle_tap(bench.service, tap_name(VM), VM)
    assert tap_name(VM) in bench.taps.links, "it was started since"


@pytest.mark.parametrize("vm_id", ["../../etc", "a/b", "", "-x", "a" * 65, "a b", "a\n"])
def test_an_id_never_becomes_another_path(bench: Bench, vm_id: str) -> None:
    with pytest.raises(Refused):
        bench.service.delete(vm_id)
    with pytest.raises(AgentError):
        bench.service.status(vm_id)


def test_a_hostile_image_reference_is_refused(bench: Bench, tmp_path: Path) -> None:
    image = bench.image.model_copy(update={"name": "../.."})
    with pytest.raises(ValidationError):
        bench.spec(image=image)
    with pytest.raises(Refused):  # the last door, whatever was let through before
        bench.service.put(bench.spec().model_copy(update={"image": image}))


def test_a_vm_that_is_just_being_started_is_not_dead(bench: Bench) -> None:
    states: list[str] = []
    spawn = bench.scopes.spawn

    def look(launch: object) -> None:
        states.append(bench.service.status(VM).state)
        spawn(launch)  # type: ignore[arg-type]

    bench.scopes.spawn = look  # type: ignore[method-assign,assignment]
    bench.service.put(bench.spec())
    assert states == ["stopped"]


def test_a_vmm_that_was_never_told_to_boot_is_started_anew(bench: Bench) -> None:
    from nqrust.agent.vmm.port import RunState

    first = bench.service.put(bench.spec()).pids
    bench.vmm.state = lambda directory: RunState.unconfigured  # type: ignore[method-assign]
    assert bench.service.status(VM).state == "failed"
    assert bench.service.put(bench.spec()).pids != first
    assert len(bench.scopes.alive) == 1


def test_volumes_are_made_attached_in_order_and_go_with_the_vm_unless_kept(bench: Bench) -> None:
    volumes = [{"device": "vdb", "size_mib": 32, "keep": True}, {"device": "vdc", "size_mib": 16, "keep": False}]
    bench.service.put(bench.spec(volumes=volumes))
    vdb = bench.vm_dir() / "vdb.raw"
    assert (vdb.stat().st_size, vdb.stat().st_mode & 0o777) == (32 << 20, 0o600)
    vdb.write_bytes(b"data")
    bench.service.stop(VM, StopRequest())
    bench.service.put(bench.spec(volumes=volumes))
    assert vdb.read_bytes() == b"data", "a second start touches nothing"
    bench.service.delete(VM)
    bench.service.delete(VM)
    (kept,) = (bench.root / "fc" / "volumes").iterdir()
    assert (kept.name, kept.read_bytes()) == (f"web1-vdb-{VM}.raw", b"data")
    assert not bench.vm_dir().exists()


def test_a_volume_that_is_gone_is_not_replaced_by_an_empty_one(bench: Bench) -> None:
    volumes = [{"device": "vdb", "size_mib": 16, "keep": False}]
    bench.service.put(bench.spec(volumes=volumes, run=False))
    (bench.vm_dir() / "vdb.raw").unlink()
    with pytest.raises(Failed) as failed:
        bench.service.put(bench.spec(volumes=volumes))
    assert failed.value.code == "NQR-VMM-111"
    assert not bench.scopes.spawned
