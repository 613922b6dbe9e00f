"""What a VM's user puts in the way of root, for real: links, second names, FIFOs, leases, and files of any length."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nqrust.agent import untrusted
from nqrust.agent.disks import accounts, disks
from nqrust.agent.errors import AgentError, Failed
from nqrust.agent.users import become
from nqrust.agent.vmm.firecracker import jail
from nqrust.agent.vmm.port import Machine
from nqrust.agent.vms.snapshots import Snapshots
from nqrust.agent.vms.status import Observer
from nqrust.contract.names import VM_USERS
from nqrust.contract.vms import GuestUser
from nqrust.host.errors import PathError
from nqrust.host.local import LocalHost
from nqrust.host.port import Command, Completed, command
from nqrust.host.secret import Secret

from .conftest import VM, Bench

HOST, USER, OTHER = LocalHost(), VM_USERS[11], VM_USERS[12]
MIB = 1 << 20
SHADOW = b"root:$6$secret:19000:0:99999:7:::\n"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def shadow(tmp_path: Path) -> Path:
    path = tmp_path / "shadow"
    path.write_bytes(SHADOW)
    path.chmod(0o600)
    return path


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder of the VM's user."""
    folder = tmp_path / "run"
    folder.mkdir()
    os.chown(folder, USER, USER)
    return folder


def put(path: Path, data: bytes = b"x", user: int = USER) -> Path:
    path.write_bytes(data)
    os.chown(path, user, user)
    return path


def trap(kind: str, path: Path, shadow: Path) -> None:
    if kind == "link":
        path.symlink_to(shadow)
    elif kind == "second name":
        os.link(shadow, path)
    elif kind == "own file with a second name":
        os.link(put(path.with_name("first")), path)
    elif kind == "another user's":
        put(path, b"x", OTHER)
    elif kind == "fifo":
        os.mkfifo(path)
        os.chown(path, USER, USER)
    elif kind == "folder":
        path.mkdir()
    else:
        put(path, b"")
        os.truncate(path, 1 << 43)  # 8 TiB: about as long as ext4 lets a file be


KINDS = ["link", "second name", "own file with a second name", "another user's", "fifo", "folder", "holes"]


@pytest.mark.parametrize("kind", KINDS)
def test_root_reads_no_trap(theirs: Path, shadow: Path, kind: str) -> None:
    trap(kind, theirs / "file", shadow)
    began = time.monotonic()
    with pytest.raises(PathError):
        untrusted.read(str(theirs / "file"), MIB, USER)
    assert untrusted.written(str(theirs / "file"), MIB, USER) is None
    assert time.monotonic() - began < 2
    assert untrusted.read(str(put(theirs / "plain", b"hello")), 5, USER) == b"hello"


def test_the_end_of_a_file_is_read(theirs: Path) -> None:
    path = str(put(theirs / "file", b"hello"))
    assert [untrusted.tail(path, size, USER) for size in (0, 2, 5, 99)] == [b"", b"lo", b"hello", b"hello"]


@pytest.mark.parametrize("kind", KINDS)
def test_root_takes_no_trap_over(theirs: Path, shadow: Path, tmp_path: Path, kind: str) -> None:
    trap(kind, theirs / "memory", shadow)
    with pytest.raises(PathError):
        untrusted.take(str(theirs / "memory"), str(tmp_path / "taken"), owner=USER, limit=MIB)
    assert (shadow.read_bytes(), shadow.stat().st_uid, shadow.stat().st_mode & 0o777) == (SHADOW, 0, 0o600)


def test_a_link_in_place_of_the_folder_is_not_followed(theirs: Path, tmp_path: Path) -> None:
    put(theirs / "file")
    (tmp_path / "link").symlink_to(theirs)
    with pytest.raises(PathError):
        untrusted.read(str(tmp_path / "link" / "file"), MIB, USER)


@pytest.fixture
def leased(tmp_path: Path) -> Iterator[Path]:
    """A console log on which a process of its user has a lease: open(2) waits for its end, 45 s by default."""
    path = put(tmp_path / "vms" / VM / "console.log" if (tmp_path / "vms").exists() else made(tmp_path), b"the last line\n")
    hold = "import fcntl,signal,sys; f=open(sys.argv[1],'r+'); signal.signal(signal.SIGIO, signal.SIG_IGN);"
    hold += "fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK); print('held', flush=True); signal.pause()"
    holder = subprocess.Popen([*become(USER), sys.executable, "-I", "-S", "-c", hold, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    if holder.stdout.readline() != b"held\n":
        holder.wait()
        pytest.skip("this file system has no leases, or the user cannot reach the Python of the tests")
    yield path
    holder.kill()
    holder.wait()


def made(tmp_path: Path) -> Path:
    folder = tmp_path / "vms" / VM
    folder.mkdir(parents=True)
    return folder / "console.log"


def test_a_lease_on_the_console_log_does_not_hold_the_agent(leased: Path) -> None:
    class Store:
        def directory(self, _: str) -> str:
            return str(leased.parent)

    began = time.monotonic()
    assert Observer(HOST, Store(), None, {}, "h1").log_tail(VM, 100) == b""  # type: ignore[arg-type]
    with pytest.raises(PathError):
        HOST.copy_file(str(leased), f"{leased}.copy", mode=0o600)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_disk_that_is_no_plain_file_is_given_to_nobody(tmp_path: Path, shadow: Path, kind: str) -> None:
    trap(kind, tmp_path / "vdb.raw", shadow)
    with pytest.raises(Failed) as failed:
        untrusted.hand_over(HOST, str(tmp_path / "vdb.raw"), USER)
    assert failed.value.code == "NQR-VMM-122"
    assert (shadow.stat().st_uid, shadow.stat().st_mode & 0o777) == (0, 0o600)


@pytest.mark.parametrize("kind", ["second name", "own file with a second name"])
def test_a_disk_with_a_second_name_is_another_file_from_then_on(tmp_path: Path, shadow: Path, kind: str) -> None:
    """Or else the VM's user could keep its VM from being deleted."""
    trap(kind, tmp_path / "vdb.raw", shadow)
    second = shadow if kind == "second name" else tmp_path / "first"
    before = second.stat().st_uid
    untrusted.hand_over(HOST, str(tmp_path / "vdb.raw"), OTHER)
    assert second.stat().st_uid == before and second.stat().st_ino != (tmp_path / "vdb.raw").stat().st_ino
    found = (tmp_path / "vdb.raw").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777, found.st_nlink) == (OTHER, OTHER, 0o600, 1)
    assert (tmp_path / "vdb.raw").read_bytes() == second.read_bytes()
    inode = found.st_ino
    untrusted.hand_over(HOST, str(tmp_path / "vdb.raw"), 0)
    assert ((tmp_path / "vdb.raw").stat().st_uid, (tmp_path / "vdb.raw").stat().st_ino) == (0, inode)


@pytest.mark.parametrize("way", ["open", "mapped"])
def test_a_vmm_that_keeps_its_snapshot_open_cannot_change_it(tmp_path: Path, way: str) -> None:
    saved = put(tmp_path / "memory", b"as it was", 0)
    saved.chmod(0o640)
    os.chown(saved, 0, USER)
    kept = os.open(saved, os.O_RDWR)
    memory = mmap.mmap(kept, 0)
    if way == "mapped":
        os.close(kept)
    inode = saved.stat().st_ino
    untrusted.settle(HOST, str(saved), MIB, 0)
    assert saved.stat().st_ino != inode
    memory.close()
    if way == "open":
        assert os.fstat(kept).st_blocks == 0, "its room is free again"
        os.pwrite(kept, b"CHANGED", 0)
        os.close(kept)
    assert saved.read_bytes() == b"as it was"
    found = saved.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, USER, 0o640)
    inode = found.st_ino
    untrusted.settle(HOST, str(saved), MIB, 0)
    assert saved.stat().st_ino == inode, "a file that nobody writes is not copied"
    with pytest.raises(PathError):
        untrusted.settle(HOST, str(saved), 3, 0)


def test_what_a_vm_starts_from_is_roots_in_its_jail(tmp_path: Path) -> None:
    """Root mounts files over those in `saved`. A link there would lead it to any program that root runs next."""
    saved = tmp_path / "snapshots" / "one"
    saved.mkdir(parents=True)
    for path in (tmp_path / "kernel", tmp_path / "disk.ext4", saved / "vmstate", saved / "memory"):
        put(path)
    kernel = str(tmp_path / "kernel")
    machine = Machine("a1", "web1", 1, 128, str(tmp_path), str(tmp_path / "disk.ext4"), kernel, "", "", USER, "kvm", kernel,
                      snapshot=str(saved))  # fmt: skip
    jail.make(HOST, machine, "/usr/bin/firecracker")
    folder = Path(jail.root(HOST, str(tmp_path))) / "saved"
    assert (folder.stat().st_uid, folder.stat().st_gid, folder.stat().st_mode & 0o777) == (0, USER, 0o750)
    assert {path.name: path.stat().st_uid for path in folder.iterdir()} == {"vmstate": 0, "memory": 0}
    attack = f"rm {folder}/memory || mv {folder}/memory {folder}/x || ln -s /bin/sh {folder}/y || : >>{folder}/memory"
    assert subprocess.run([*become(USER), "sh", "-c", attack], check=False, capture_output=True).returncode != 0
    for path in (saved / "vmstate", saved / "memory"):
        assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (0, USER, 0o640)


def test_a_disk_that_its_vm_made_longer_is_not_copied(bench: Bench) -> None:
    bench.service.put(bench.spec(run=False, volumes=[{"device": "vdb", "size_mib": 16, "keep": False}]))
    snapshots = Snapshots(bench.service)
    for name in ("disk.ext4", "vdb.raw"):
        path = bench.vm_dir() / name
        size = path.stat().st_size
        os.truncate(path, 1 << 43)
        with pytest.raises(Failed) as failed:
            snapshots.create(VM, "before")
        assert failed.value.code == "NQR-VMM-123" and name in failed.value.what
        os.truncate(path, size)
    assert snapshots.create(VM, "before").kind == "disk"


class Swapping(LocalHost):
    """A process of the VM's user replaces each file that a disk tool has written."""

    def __init__(self, shadow: Path, kind: str) -> None:
        super().__init__()
        self.shadow, self.kind = shadow, kind

    def run(self, cmd: Command, **more: object) -> Completed:
        done = super().run(cmd, **more)  # type: ignore[arg-type]
        if any("debugfs" in word for word in cmd.argv):
            direct = "debugfs" in cmd.argv  # otherwise a script, whose last argument is the folder
            folder = Path(cmd.argv[cmd.argv.index("-f") + 1]).parent if direct else Path(cmd.argv[-1])
            for path in folder.iterdir():
                if path.suffix == ".back" or path.name in ("passwd", "group", "shadow", "told") or path.name.startswith("look"):
                    path.unlink()
                    trap(self.kind, path, self.shadow)
        return done


def image(make_ext4: Callable[..., Path], path: Path, passwd: str = "root:x:0:0:root:/root:/bin/sh\n") -> Path:
    return make_ext4(path, prepare=lambda tree: (tree / "etc" / "passwd").write_text(passwd))


@pytest.mark.parametrize("kind", ["link", "second name", "fifo", "holes"])
def test_no_file_of_the_host_gets_into_a_disk(tmp_path: Path, shadow: Path, make_ext4: Callable[..., Path], kind: str) -> None:
    disk = put(image(make_ext4, tmp_path / "disk"), (tmp_path / "disk").read_bytes())
    began = time.monotonic()
    with pytest.raises(AgentError):
        accounts.inject(Swapping(shadow, kind), str(disk), [GuestUser(name="ana")])
    with pytest.raises(AgentError):
        disks.inject(Swapping(shadow, kind), str(disk), disks.Identity("a1", "web1", "http://10.0.0.1:1", Secret("t")))
    assert time.monotonic() - began < 60
    assert SHADOW not in disk.read_bytes()


def test_a_passwd_file_above_a_mib_is_not_copied_out(tmp_path: Path, make_ext4: Callable[..., Path]) -> None:
    disk = image(make_ext4, tmp_path / "disk", "root:x:0:0:root:/root:/bin/sh\n" + "#" * MIB)
    os.chown(disk, USER, USER)
    seen: list[str] = []

    class Watching(LocalHost):
        def run(self, cmd: Command, **more: object) -> Completed:
            if "debugfs" in cmd.argv:
                seen.append(Path(cmd.argv[cmd.argv.index("-f") + 1]).read_text())
            return super().run(cmd, **more)  # type: ignore[arg-type]

    with pytest.raises(Failed) as failed:
        accounts.inject(Watching(), str(disk), [GuestUser(name="ana")])
    assert failed.value.code == "NQR-IMG-103" and "/etc/passwd" in failed.value.what
    assert not any("dump" in script for script in seen)
    assert HOST.run(command("debugfs", "-R", "cat /etc/passwd", str(disk))).stdout.count("#") == MIB, "it is as it was"


def test_root_adds_to_a_log_of_the_vm_and_to_no_other_file(theirs: Path, shadow: Path) -> None:
    log = put(theirs / "console.log", b"one\n")
    untrusted.append(str(log), b"two\n", USER)
    assert log.read_bytes() == b"one\ntwo\n"
    (theirs / "link").symlink_to(shadow)
    os.link(log, theirs / "second")
    os.mkfifo(theirs / "fifo")
    foreign = put(theirs / "foreign", b"", OTHER)
    for path in (theirs / "link", log, theirs / "fifo", foreign, theirs / "missing"):
        with pytest.raises(PathError):
            untrusted.append(str(path), b"three\n", USER)
    assert (log.read_bytes(), shadow.read_bytes(), foreign.read_bytes()) == (b"one\ntwo\n", SHADOW, b"")
