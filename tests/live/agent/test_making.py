"""A new disk is made while its VM's VMM starts, by a user of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nqrust.agent import survivors
from nqrust.agent.disks import disks, tools
from nqrust.agent.errors import Failed
from nqrust.agent.users import become
from nqrust.agent.vmm.port import Machine
from nqrust.contract.names import VM_USERS
from nqrust.host.errors import CommandFailed
from nqrust.host.local import LocalHost
from nqrust.host.port import Completed, Host

from .conftest import VM, Bench

HOST = LocalHost()
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def late(bench: Bench) -> Bench:
    """A VMM that reads its disks when its guest begins."""
    bench.vmm.capabilities = replace(bench.vmm.capabilities, reads_disks_last=True)
    return bench


def watched(late: Bench, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Users and groups of the programs that work on disks."""
    ran: list[tuple[int, int]] = []
    run = tools.run

    def noted(host: Host, disk: str, *argv: str, **more: object) -> Completed:
        found = os.stat(disk)
        ran.append((found.st_uid, found.st_gid))
        return run(host, disk, *argv, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(tools, "run", noted)
    return ran


def test_the_programs_that_read_the_image_run_as_a_user_of_their_own(late: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = watched(late, monkeypatch)
    late.service.put(late.spec())
    user, disk = late.vm_dir().stat().st_gid, late.vm_dir() / "disk.ext4"
    assert {group for _, group in ran} == {user}, "it passes through the VM's folder"
    (maker,) = {one for one, _ in ran}
    assert maker != user and maker in VM_USERS and not late.service.store.borrowed
    assert (disk.stat().st_uid, disk.stat().st_gid, disk.stat().st_mode & 0o777) == (user, user, 0o600)
    record = late.service.store.read(VM)
    assert record is not None and record.injected and record.asked == "run" and late.vmm.begun == [VM]
    assert not list(late.vm_dir().glob("*.new*"))


def test_without_a_start_or_under_a_vmm_that_reads_its_disks_first_the_vms_own_user_makes_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = watched(bench, monkeypatch)
    bench.service.put(bench.spec())
    user = bench.vm_dir().stat().st_gid
    assert set(ran) == {(user, user)}
    ran.clear()
    bench.vmm.capabilities = replace(bench.vmm.capabilities, reads_disks_last=True)
    other = "1b8f0c3e-5f0e-4a53-9f4e-6a1d2a8f7c11"
    bench.service.put(bench.spec(other, run=False, ip="10.0.0.21", name="web2"))
    own = bench.vm_dir(other).stat().st_gid
    assert set(ran) == {(own, own)}


def test_the_guest_begins_when_the_disk_is_the_vms_and_nothing_of_its_makers_runs(
    late: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[subprocess.Popen[bytes]] = []
    write = disks.Staged.write

    def hostile(staged: disks.Staged, identity: disks.Identity) -> str:
        left.append(subprocess.Popen([*become(staged.maker), "sleep", "300"], start_new_session=True))
        while survivors.none(HOST, staged.maker):
            pass
        return write(staged, identity)

    def begin(machine: Machine) -> None:
        assert left[0].wait(timeout=10) == -9
        assert (late.vm_dir() / "disk.ext4").stat().st_uid == late.vm_dir().stat().st_gid
        late.vmm.begun.append(machine.id)

    monkeypatch.setattr(disks.Staged, "write", hostile)
    monkeypatch.setattr(late.vmm, "begin", begin)
    late.service.put(late.spec())
    assert late.vmm.begun == [VM]


def test_a_vmm_that_starts_meanwhile_can_open_the_disk_and_finds_its_length(late: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[os.stat_result] = []
    configure = late.vmm.configure

    def opens(machine: Machine) -> None:
        found.append(os.stat(machine.disk))
        configure(machine)

    monkeypatch.setattr(late.vmm, "configure", opens)
    late.service.put(late.spec(disk_mib=64))
    user, disk = late.vm_dir().stat().st_gid, os.stat(late.vm_dir() / "disk.ext4")
    assert (found[0].st_gid, found[0].st_mode & 0o777, found[0].st_size) == (user, 0o660, 64 << 20)
    assert (found[0].st_ino, found[0].st_size) == (disk.st_ino, disk.st_size), "what the VMM has open becomes the disk"


def test_a_disk_with_a_second_name_is_given_to_no_vm(late: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write = disks.Staged.write

    def hostile(staged: disks.Staged, identity: disks.Identity) -> str:
        os.link(staged.part, f"{staged.part}.other")
        return write(staged, identity)

    monkeypatch.setattr(disks.Staged, "write", hostile)
    with pytest.raises(Failed) as failed:
        late.service.put(late.spec())
    assert failed.value.code == "NQR-VMM-122" and late.vmm.begun == [] and VM not in late.scopes.alive


@pytest.mark.parametrize("later", [0.0, 0.5], ids=["before the start has failed", "after it"])
def test_a_start_that_fails_ends_the_programs_and_leaves_no_disk(
    late: Bench, monkeypatch: pytest.MonkeyPatch, later: float
) -> None:
    late.vmm.broken = True
    makers: list[int] = []
    slept: list[str] = []

    def slow(staged: disks.Staged, identity: disks.Identity) -> str:
        makers.append(staged.maker)
        time.sleep(later)
        with contextlib.suppress(CommandFailed):
            tools.run(HOST, staged.part, "sleep", "300")
            slept.append(staged.part)
        return ""

    monkeypatch.setattr(disks.Staged, "write", slow)
    with pytest.raises(Failed) as failed:
        late.service.put(late.spec())
    assert not slept
    assert failed.value.code == "NQR-VMM-105" and survivors.none(HOST, makers[0])
    assert not [path for path in late.vm_dir().iterdir() if path.name.startswith("disk")]
    record = late.service.store.read(VM)
    assert record is not None and record.asked == "stop" and not late.service.store.borrowed
    assert VM not in late.scopes.alive and not late.taps.links


def test_a_disk_that_cannot_be_made_ends_the_vmm(late: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def unusable(staged: disks.Staged, identity: disks.Identity) -> str:
        raise Failed("NQR-IMG-102", "The image's file system cannot be used.", "Build or add the image again.")

    monkeypatch.setattr(disks.Staged, "write", unusable)
    with pytest.raises(Failed) as failed:
        late.service.put(late.spec())
    assert failed.value.code == "NQR-IMG-102" and late.vmm.begun == [] and VM not in late.scopes.alive
    assert late.service.status(VM).state == "stopped"
    monkeypatch.undo()
    late.vmm.capabilities = replace(late.vmm.capabilities, reads_disks_last=True)
    assert late.service.put(late.spec(generation=2)).state == "running"


def test_the_maker_of_a_disk_opens_no_other_file_of_its_vm(late: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its group passes through the VM's folder, and may open nothing there."""
    look = 'for path; do (: <"$path") 2>/dev/null && echo "r$path"; (: 1<>"$path") 2>/dev/null && echo "w$path"; done'
    seen: list[str] = []
    files: set[str] = set()
    write = disks.Staged.write

    def nosy(staged: disks.Staged, identity: disks.Identity) -> str:
        told = write(staged, identity)
        folder = Path(staged.disk).parent
        while VM not in late.scopes.alive:
            time.sleep(0.01)
        files.update(path.name for path in folder.iterdir() if not path.is_dir())
        argv = [*become(staged.maker, staged.user), "timeout", "20", "sh", "-c", look, "sh", *sorted(files)]
        seen.extend(subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False).stdout.split())
        return told

    monkeypatch.setattr(disks.Staged, "write", nosy)
    late.service.put(late.spec())
    assert files >= {"console.log", "disk.ext4.new", "passwd", "terminal", "vm.json"}
    assert seen == ["rdisk.ext4.new", "wdisk.ext4.new", "rpasswd"]


def test_the_maker_of_a_disk_reaches_no_process_of_its_vm(late: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    reach = "import os, sys\npid = int(sys.argv[1])\nfor what in ('kill', 'mem', 'environ', 'cwd'):\n    try:\n"
    reach += "        os.kill(pid, 0) if what == 'kill' else os.stat(f'/proc/{pid}/{what}/') if what == 'cwd' else open(f'/proc/{pid}/{what}')\n"
    reach += "        print(what)\n    except OSError:\n        pass\n"
    seen: dict[str, list[str]] = {}
    write = disks.Staged.write

    def nosy(staged: disks.Staged, identity: disks.Identity) -> str:
        while VM not in late.scopes.alive:  # the agent has ended all that runs as the VM's user
            time.sleep(0.01)
        vmm = subprocess.Popen([*become(staged.user), "sleep", "300"], start_new_session=True)
        while Path(f"/proc/{vmm.pid}/comm").read_text() != "sleep\n":
            time.sleep(0.01)
        try:
            for name, who in (("maker", (staged.maker, staged.user)), ("itself", (staged.user, staged.user))):
                argv = [*become(*who), sys.executable, "-I", "-S", "-c", reach, str(vmm.pid)]
                seen[name] = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
        finally:
            vmm.kill()
            vmm.wait()
        return write(staged, identity)

    monkeypatch.setattr(disks.Staged, "write", nosy)
    late.service.put(late.spec())
    assert seen == {"maker": [], "itself": ["kill", "mem", "environ", "cwd"]}
