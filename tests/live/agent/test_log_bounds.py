"""Logs of VMs stay small, whatever a guest or its VMM writes, and root writes into none of them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nqrust.agent.store import Store
from nqrust.agent.users import become
from nqrust.agent.vmm.firecracker import jail
from nqrust.agent.vms import upkeep
from nqrust.agent.vms.status import Observer
from nqrust.host.errors import HostError
from nqrust.host.local import LocalHost
from nqrust.host.port import Stat

from .conftest import VM

USER, MIB = 1_900_000_007, 1 << 20
LOG = "firecracker.log"


class Service:
    def __init__(self, vms: Path, host: LocalHost | None = None) -> None:
        self.host = host or LocalHost()
        self.store = Store(self.host, str(vms))


@pytest.fixture
def vms(tmp_path: Path) -> Path:
    if os.geteuid() != 0 or not LocalHost().which("setpriv"):
        pytest.skip("needs root and setpriv")
    folder = tmp_path / "vms"
    lay_out(folder)
    return folder


def lay_out(folder: Path) -> None:
    """As `store.prepare` and `jail.make` do, and the jailer, which gives the jail's root to the VM's user."""
    directory = folder / VM
    (directory / "jail" / "firecracker" / VM / "root" / "snapshot").mkdir(parents=True)
    directory.chmod(0o710)
    os.chown(directory, 0, USER)
    for path in (root(folder), root(folder) / "snapshot"):
        os.chown(path, USER, USER)
    for path in (directory / "console.log", root(folder) / LOG, root(folder) / "firecracker.metrics"):
        path.write_bytes(b"")
        path.chmod(0o600)
        os.chown(path, USER, USER)


def root(vms: Path) -> Path:
    return vms / VM / "jail" / "firecracker" / VM / "root"


def fill(path: Path, size: int = 3 * MIB) -> None:
    line = b"guest: " + b"x" * 92 + b"\n"
    with open(path, "ab") as file:
        file.write(line * (size // len(line)) + b"the last line\n")


def test_a_console_log_keeps_its_end_and_its_owner(vms: Path) -> None:
    log = vms / VM / "console.log"
    fill(log)
    before = log.stat()
    assert upkeep.bound_logs(Service(vms)) == [VM]  # type: ignore[arg-type]
    after = log.stat()
    assert (after.st_ino, after.st_uid, after.st_mode) == (before.st_ino, USER, before.st_mode), "the same file, cut in place"
    assert after.st_size <= upkeep.KEPT
    assert log.read_bytes().startswith(b"guest: ") and log.read_bytes().endswith(b"the last line\n")
    assert upkeep.bound_logs(Service(vms)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [LOG, "firecracker.metrics"])
def test_what_a_vmm_writes_into_its_jail_is_emptied(vms: Path, name: str) -> None:
    log = root(vms) / name
    writer = os.open(log, os.O_WRONLY)  # Firecracker does not append
    os.write(writer, b"x" * 3 * MIB)
    assert upkeep.bound_logs(Service(vms)) == [VM]  # type: ignore[arg-type]
    assert log.stat().st_blocks == 0
    os.write(writer, b"more\n")
    os.close(writer)
    assert log.stat().st_size > 3 * MIB, "it goes on where it was, after a hole"
    assert upkeep.bound_logs(Service(vms)) == [], "a hole takes no room"  # type: ignore[arg-type]


def test_logs_stay_small_while_they_are_flooded(vms: Path) -> None:
    flood = 'exec >>"$0"; while :; do echo "$1$1$1$1$1$1$1$1"; done'
    paths = [vms / VM / "console.log", root(vms) / LOG]
    writers = [subprocess.Popen([*become(USER), "sh", "-c", flood, str(path), "y" * 1000]) for path in paths]
    largest = 0
    try:
        ending = time.monotonic() + 6
        while time.monotonic() < ending:
            time.sleep(0.2)
            largest = max(largest, *(path.stat().st_size for path in paths))
            upkeep.bound_logs(Service(vms))  # type: ignore[arg-type]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    upkeep.bound_logs(Service(vms))  # type: ignore[arg-type]
    assert all(path.stat().st_size <= upkeep.LARGEST for path in paths)
    assert largest < 100 * MIB


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("needs root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("cannot mount a tmpfs here")
    folder.chmod(0o755)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_no_reason_to_keep_a_log(small_disk: Path) -> None:
    vms = small_disk / "vms"
    lay_out(vms)
    for path in (vms / VM / "console.log", root(vms) / LOG):
        fill(path, 3 * MIB // 2)
    with pytest.raises(OSError), open(small_disk / "rest", "wb", buffering=0) as rest:
        while True:
            rest.write(b"x" * 65536)
            if os.statvfs(small_disk).f_bavail == 0:
                raise OSError("full")
    assert upkeep.bound_logs(Service(vms)) == [VM]  # type: ignore[arg-type]
    assert (vms / VM / "console.log").read_bytes().endswith(b"the last line\n")
    assert os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize > 2 * MIB


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "another's"])
def test_what_the_vms_user_put_in_a_logs_place_is_left_alone(vms: Path, tmp_path: Path, kind: str) -> None:
    victim, log = tmp_path / "victim", root(vms) / LOG
    victim.write_bytes(b"v" * 2 * MIB)
    victim.chmod(0o666)
    log.unlink()
    if kind == "link":
        log.symlink_to(victim)
    elif kind == "fifo":
        os.mkfifo(log)
    elif kind == "folder":
        log.mkdir()
    else:
        os.link(victim, log)
        os.chown(victim, 65534, 65534)
    began = time.monotonic()
    assert upkeep.bound_logs(Service(vms)) == []  # type: ignore[arg-type]
    assert time.monotonic() - began < 2 and victim.stat().st_size == 2 * MIB


class Racing(LocalHost):
    """The VM's user acts between the look and the cut."""

    def __init__(self, log: Path, victim: Path, way: str) -> None:
        super().__init__()
        self.log, self.victim, self.way = log, victim, way

    def stat(self, path: str) -> Stat | None:
        found = super().stat(path)
        if path == str(self.log):
            self.log.unlink()
            if self.way == "fifo":
                os.mkfifo(self.log)
                os.chown(self.log, USER, USER)
            else:
                self.log.symlink_to(self.victim) if self.way == "link" else os.link(self.victim, self.log)
        return found


@pytest.mark.parametrize(("owner", "way"), [(0, "link"), (USER, "link"), (0, "second name"), (0, "fifo")])
def test_a_log_that_is_replaced_at_the_last_moment_leads_nowhere(vms: Path, tmp_path: Path, owner: int, way: str) -> None:
    victim, log = tmp_path / "victim", root(vms) / LOG
    victim.write_bytes(b"v")
    victim.chmod(0o666)
    os.chown(victim, owner, owner)
    fill(log)
    host = Racing(log, victim, way)
    began = time.monotonic()
    assert upkeep.bound_logs(Service(vms, host)) == []  # type: ignore[arg-type]
    assert victim.read_bytes() == b"v"
    assert time.monotonic() - began < 2


def test_a_vms_programs_cannot_stop_the_cut(vms: Path) -> None:
    """They stop what runs as their user."""
    hunt = "while :; do for p in /proc/[0-9]*; do [ -O $p ] && [ ${p#/proc/} != $$ ] && kill -STOP ${p#/proc/}; done; done 2>/dev/null"
    hunter = subprocess.Popen([*become(USER), "sh", "-c", hunt])
    try:
        time.sleep(0.5)
        fill(vms / VM / "console.log")
        began = time.monotonic()
        assert upkeep.bound_logs(Service(vms)) == [VM]  # type: ignore[arg-type]
        assert time.monotonic() - began < 5
    finally:
        hunter.kill()
        hunter.wait()


def test_a_long_log_is_not_read_as_a_whole(vms: Path) -> None:
    log = vms / VM / "console.log"
    fill(log, 8 * MIB)
    service = Service(vms)
    observer = Observer(service.host, service.store, None, {}, "h1")  # type: ignore[arg-type]
    assert observer.log_tail(VM, 14) == b"the last line\n"
    assert len(observer.log_tail(VM, MIB)) == MIB


def test_a_snapshot_of_another_vm_cannot_be_taken_through_a_link(vms: Path, tmp_path: Path) -> None:
    others, taken = tmp_path / "others", tmp_path / "taken"
    for folder in (others, taken):
        folder.mkdir()
    for name in ("vmstate", "memory"):
        (others / name).write_bytes(b"another's")
        (root(vms) / "snapshot" / name).write_bytes(b"own")
        for path in (others / name, root(vms) / "snapshot" / name):
            os.chown(path, USER, USER)
    jail.take_snapshot(LocalHost(), str(vms / VM), str(taken), USER, MIB)
    assert (taken / "memory").read_bytes() == b"own"
    found = (taken / "memory").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, USER, 0o640), "its VM can read it, and not change it"
    (root(vms) / "snapshot").rmdir()
    (root(vms) / "snapshot").symlink_to(others)
    with pytest.raises(HostError):
        jail.take_snapshot(LocalHost(), str(vms / VM), str(taken), USER, MIB)
    assert (others / "memory").read_bytes() == b"another's"
