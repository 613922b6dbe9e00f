"""A VM's own disk is written again after the VM was killed, or after a write was cut off."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nqrust.agent.disks import disks
from nqrust.agent.errors import AgentError, Failed
from nqrust.host.port import Completed, command

from .conftest import VM, Bench
from .journals import HOST, debugfs, dirty, leave_in_journal

OTHER = {"guest_token": "token-2"}


def cat(disk: Path, path: str) -> str:
    return HOST.run(command("debugfs", "-R", f"cat {path}", str(disk))).stdout


def checked(disk: Path) -> Completed:
    return HOST.run(command("e2fsck", "-f", "-n", str(disk), ok=(0, 1, 4, 8, 12)))


def made(bench: Bench) -> Path:
    bench.service.put(bench.spec(run=False))
    return bench.vm_dir() / "disk.ext4"


def test_files_of_a_killed_guest_and_those_of_the_agent_do_not_cross(bench: Bench, tmp_path: Path) -> None:
    disk, own = made(bench), tmp_path / "own"
    own.write_text("of the guest\n")
    leave_in_journal(disk, "mkdir /var", "cd /var", *(f"write {own} file{n}" for n in range(12)))
    bench.service.put(bench.spec(run=False, **OTHER))
    assert not dirty(disk) and checked(disk).code == 0
    assert "TOKEN=token-2" in cat(disk, "/etc/guest-agent.conf")
    assert [cat(disk, f"/var/file{n}") for n in range(12)] == ["of the guest\n"] * 12


def test_a_disk_with_nothing_to_write_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    disk = made(bench)
    leave_in_journal(disk, "mkdir /var")
    before = disk.read_bytes()
    bench.service.put(bench.spec(run=False))
    assert disk.read_bytes() == before


def damage(disk: Path) -> None:
    """A guest's kernel found errors, and a name leads to an inode of garbage."""
    debugfs(disk, "mkdir /var", "set_inode_field /var mode 0", "set_super_value state 2")


def test_a_damaged_disk_is_neither_written_nor_repaired_by_guess(bench: Bench) -> None:
    disk = made(bench)
    damage(disk)
    for _ in range(2):
        with pytest.raises(AgentError) as failed:
            bench.service.put(bench.spec(**OTHER))
        assert failed.value.code == "NQR-VMM-141" and "RUN fsck MANUALLY" in failed.value.what
        assert "TOKEN=token-1" in cat(disk, "/etc/guest-agent.conf") and checked(disk).code == 4
    assert VM not in bench.scopes.alive
    bench.service.put(bench.spec())
    assert VM in bench.scopes.alive, "a guest whose disk needs no writing boots, and repairs it itself"


def test_all_of_a_disk_is_checked_after_a_write_that_was_cut_off(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = made(bench)
    again = disks.Ext4.again

    def cut_off(*_: object) -> str:
        debugfs(disk, "mkdir /var", "clri /var")  # as where a part of what it changed reached the disk
        raise KeyboardInterrupt

    monkeypatch.setattr(disks.Ext4, "again", cut_off)
    with pytest.raises(KeyboardInterrupt):
        bench.service.put(bench.spec(run=False, **OTHER))
    assert checked(disk).code == 4
    monkeypatch.setattr(disks.Ext4, "again", again)
    bench.service.put(bench.spec(run=False))
    assert checked(disk).code == 0 and "TOKEN=token-1" in cat(disk, "/etc/guest-agent.conf")
    record = bench.service.store.read(VM)
    assert record is not None and record.injected


def test_a_check_runs_with_the_limits_of_other_programs_that_read_disks(
    tmp_path: Path, make_ext4: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = make_ext4(tmp_path / "disk")
    with pytest.raises(Failed) as failed:
        disks.EXT4.ready(HOST, str(disk), cut_off=False)
    assert failed.value.code == "NQR-VMM-121", "it is root's"
    os.chown(disk, 1_900_000_000, 1_900_000_000)
    disks.EXT4.ready(HOST, str(disk), cut_off=False)
    monkeypatch.setattr(disks.tools, "LARGEST_OUTPUT", 1)
    with pytest.raises(Failed) as failed:
        disks.EXT4.ready(HOST, str(disk), cut_off=True)
    assert failed.value.code == "NQR-VMM-141"
