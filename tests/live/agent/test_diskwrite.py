"""The helper's verb disk-write with real file systems: made by their own tools, mounted by the kernel, checked after."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import stat
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.live.agent import mounted_images as images
from tests.live.agent.mounted_images import Installed

from nqrust.agent.disks.diskwrite import mounting, writer
from nqrust.contract.names import VM_USERS
from nqrust.host.errors import CommandFailed
from nqrust.host.local import LocalHost
from nqrust.host.port import Command, Completed

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@laptop"
HASH = "$6$abcdefgh$abcdefghijklmnop"
HOSTNAME = {"path": "/etc/hostname", "content": "web1\n", "mode": 0o644}
CONF = {"path": "/etc/guest-agent.conf", "content": "TOKEN=t\n", "mode": 0o600}
KEYS = {"path": "/root/.ssh/authorized_keys", "content": f"{KEY}\n", "mode": 0o600}


@pytest.fixture(scope="module", params=images.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    reason = images.why_not(str(request.param))
    if reason:
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture(scope="module")
def image(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(kind)
    return images.make(kind, folder / "image", images.plain_tree(folder / "tree"))


@pytest.fixture
def helper(tmp_path: Path) -> Installed:
    return images.install(tmp_path)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "hostname").write_text("mine\n")
    return folder


def request(kind: str, *files: dict[str, object], vm_id: str = "a1", **more: object) -> dict[str, object]:
    return {"vm_id": vm_id, "type": kind, "files": list(files), **more}


def access(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def mounts() -> str:
    """Of this process's namespace, where a mount of the helper must never be seen."""
    return Path("/proc/self/mountinfo").read_text()


def test_files_and_users_come_in_and_the_file_system_grows(kind: str, image: Path, helper: Installed, tmp_path: Path) -> None:
    disk, before = helper.disk(image, mib=images.SIZES[kind] + 200), mounts()
    users = [
        {"name": "ana", "ssh_keys": [KEY], "password_hash": HASH},
        {"name": "old", "ssh_keys": [KEY], "password_hash": None},
    ]
    assert helper.ask(request(kind, HOSTNAME, CONF, KEYS, users=users)) == (0, "")
    assert images.size(kind, disk) == (images.SIZES[kind] + 200) << 20
    assert images.clean(kind, disk)
    assert not images.attached(disk) and mounts() == before
    assert sorted(os.listdir(helper.folder())) == ["disk.ext4", "lock"]
    found = images.contents(kind, disk, tmp_path / "found")
    assert (found / "etc/hostname").read_text() == "web1\n" and access(found / "etc/hostname") == (0o644, 0, 0)
    assert (found / "etc/guest-agent.conf").read_text() == "TOKEN=t\n" and access(found / "etc/guest-agent.conf") == (0o600, 0, 0)
    assert (found / "root/.ssh/authorized_keys").read_text() == f"{KEY}\n" and access(found / "root/.ssh") == (0o700, 0, 0)
    assert "ana:x:1001:1001::/home/ana:/bin/sh\n" in (found / "etc/passwd").read_text()
    assert f"ana:{HASH}:::::::\n" in (found / "etc/shadow").read_text() and access(found / "etc/shadow")[0] == 0o640
    assert access(found / "home/ana/.ssh/authorized_keys") == (0o600, 1001, 1001)
    assert access(found / "home/ana") == (0o755, 1001, 1001) and access(found / "home/ana/.ssh") == (0o700, 1001, 1001)
    assert access(found / "home/old/.ssh") == (0o700, 1000, 1000)
    assert [p.name for p in found.rglob(".nqr-*")] == []
    assert helper.ask(request(kind, {**HOSTNAME, "content": "web2\n"})) == (0, "")
    assert (images.contents(kind, disk, tmp_path / "again") / "etc/hostname").read_text() == "web2\n"


def test_a_hostile_image_reaches_nothing_of_the_host(kind: str, helper: Installed, victim: Path, tmp_path: Path) -> None:
    tree = images.plain_tree(tmp_path / "tree")
    (tree / "etc/hostname").unlink()
    (tree / "etc/hostname").symlink_to("../../../../../../../.." + str(victim / "hostname"))
    os.mknod(tree / "etc/guest-agent.conf", stat.S_IFBLK | 0o666, os.makedev(7, 0))
    (tree / "root/.ssh").symlink_to(victim)
    (tree / "home").rmdir()
    (tree / "home").symlink_to("../../../../../.." + str(victim))
    (tree / "etc/shadow").unlink()
    (tree / "etc/shadow").symlink_to("/etc/shadow")
    disk = helper.disk(images.make(kind, tmp_path / "image", tree))
    passwords = Path("/etc/shadow").read_bytes()
    assert helper.ask(request(kind, KEYS)) == (1, "NQR-IMG-103")
    assert helper.ask(request(kind, users=[{"name": "ana"}])) == (1, "NQR-IMG-103")
    assert helper.ask(request(kind, HOSTNAME, CONF)) == (0, "")
    found = images.contents(kind, disk, tmp_path / "found")
    for name, text in (("hostname", "web1\n"), ("guest-agent.conf", "TOKEN=t\n")):
        assert (found / "etc" / name).read_text() == text and not (found / "etc" / name).is_symlink()
    assert os.listdir(victim) == ["hostname"] and (victim / "hostname").read_text() == "mine\n"
    assert Path("/etc/shadow").read_bytes() == passwords
    assert images.clean(kind, disk) and not images.attached(disk)


def test_an_etc_that_leads_out_is_refused(kind: str, helper: Installed, victim: Path, tmp_path: Path) -> None:
    tree = images.plain_tree(tmp_path / "tree")
    (tree / "etc").rename(tree / "usr")
    (tree / "etc").symlink_to(victim)
    disk = helper.disk(images.make(kind, tmp_path / "image", tree))
    assert helper.ask(request(kind, HOSTNAME)) == (1, "NQR-IMG-103")
    assert os.listdir(victim) == ["hostname"] and (victim / "hostname").read_text() == "mine\n"
    assert not images.attached(disk)


def overwrite(disk: Path, *pieces: tuple[int, bytes]) -> None:
    with open(disk, "r+b") as file:
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)


def claim(kind: str, disk: Path) -> None:
    """More than there is: an exbibyte."""
    overwrite(disk, (8, struct.pack(">Q", 1 << 48)) if kind == "xfs" else (0x10070, struct.pack("<Q", 1 << 60)))


def wants_another_device(kind: str, disk: Path) -> None:
    """A realtime device (xfs), a second one (btrfs)."""
    overwrite(disk, (16, struct.pack(">Q", 1)) if kind == "xfs" else (0x10088, struct.pack("<Q", 2)))


def no_magic(kind: str, disk: Path) -> None:
    overwrite(disk, (0, bytes(512)), (0x10000, bytes(4096)))


def broken_inside(kind: str, disk: Path) -> None:
    """The first group's headers (xfs), every byte of the trees that is not the superblock's (btrfs)."""
    if kind == "xfs":
        overwrite(disk, (512, b"\xff" * 3 * 512))
    else:
        with open(disk, "r+b") as file:
            data = bytearray(file.read())
            for offset in range(0x11000, len(data), 4096):
                if any(data[offset : offset + 4096]):
                    data[offset + 200 : offset + 1200] = b"\xa5" * 1000
            file.seek(0)
            file.write(data)


def cut(kind: str, disk: Path) -> None:
    os.truncate(disk, 20 << 20)


@pytest.mark.parametrize("damage", [claim, wants_another_device, no_magic, broken_inside, cut])
def test_a_damaged_or_lying_file_system_is_refused(
    kind: str, image: Path, helper: Installed, damage: Callable[[str, Path], None]
) -> None:
    disk = helper.disk(image)
    damage(kind, disk)
    assert helper.ask(request(kind, HOSTNAME)) == (1, "NQR-IMG-102")
    assert not images.attached(disk)


def test_another_type_than_the_image_says_is_refused(kind: str, image: Path, helper: Installed) -> None:
    helper.disk(image)
    other = "btrfs" if kind == "xfs" else "xfs"
    if reason := images.why_not(other):
        pytest.skip(reason)
    assert helper.ask(request(other, HOSTNAME)) == (1, "NQR-IMG-102")


def test_a_disk_in_use_is_left_alone(kind: str, image: Path, helper: Installed) -> None:
    disk = helper.disk(image)
    before = disk.stat().st_mtime_ns
    with open(helper.folder() / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as the launcher of a VMM does
        assert helper.ask(request(kind, HOSTNAME)) == (1, "NQR-IMG-108")
    with open(disk, "rb"):
        assert helper.ask(request(kind, HOSTNAME)) == (1, "NQR-IMG-108")
    device = subprocess.run(
        ["losetup", "-f", "--show", "-r", str(disk)], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        assert helper.ask(request(kind, HOSTNAME)) == (1, "NQR-IMG-108")
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
    assert disk.stat().st_mtime_ns == before


def test_no_path_but_the_vms_own_disk(kind: str, image: Path, helper: Installed, tmp_path: Path) -> None:
    disk, elsewhere = helper.disk(image), tmp_path / "elsewhere"
    disk.rename(elsewhere)
    before = elsewhere.stat().st_mtime_ns
    disk.symlink_to(elsewhere)
    assert helper.ask(request(kind, HOSTNAME)) == (1, "NQR-IMG-109")
    disk.unlink()
    os.link(elsewhere, disk)
    assert helper.ask(request(kind, HOSTNAME)) == (1, "NQR-IMG-109")
    disk.unlink()
    (tmp_path / "folder").mkdir()
    elsewhere.rename(tmp_path / "folder/disk.ext4")
    (helper.data / "vms/b1").symlink_to(tmp_path / "folder")
    assert helper.ask(request(kind, HOSTNAME, vm_id="b1")) == (1, "NQR-IMG-109")
    assert helper.ask(request(kind, HOSTNAME, vm_id="none")) == (1, "NQR-IMG-109")
    assert (tmp_path / "folder/disk.ext4").stat().st_mtime_ns == before


def test_copies_of_one_image_at_the_same_time(kind: str, image: Path, helper: Installed, tmp_path: Path) -> None:
    """They all have the image's UUID."""
    vms = ["a1", "a2", "a3"]
    disks = [helper.disk(image, vm_id=vm) for vm in vms]
    running = [helper.start(request(kind, {**HOSTNAME, "content": f"{vm}\n"}, vm_id=vm)) for vm in vms]
    for process in running:
        stdout, stderr = process.communicate(timeout=300)
        assert json.loads(stdout)["code"] == "", stdout + stderr
    for vm, disk in zip(vms, disks, strict=True):
        assert (images.contents(kind, disk, tmp_path / vm) / "etc/hostname").read_text() == f"{vm}\n"


def test_a_killed_helper_leaves_no_mount_and_no_loop_device(kind: str, image: Path, helper: Installed) -> None:
    disk, before, killed = helper.disk(image), mounts(), 0
    for _ in range(10):
        process = helper.start(request(kind, HOSTNAME))
        while process.poll() is None and not images.attached(disk):
            time.sleep(0.005)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        process.communicate()
        while images.attached(disk):  # the kernel takes it away when the last process of the namespace is gone
            time.sleep(0.01)
        if killed:
            break
    assert killed, "it always ended before it could be killed"
    assert mounts() == before
    assert helper.ask(request(kind, HOSTNAME)) == (0, "")
    assert images.clean(kind, disk)


def test_the_log_of_a_killed_vm_is_replayed(helper: Installed, tmp_path: Path) -> None:
    if reason := images.why_not("xfs"):
        pytest.skip(reason)
    disk = helper.disk(images.make("xfs", tmp_path / "image", images.plain_tree(tmp_path / "tree")))
    images.leave_a_dirty_log(disk)
    assert helper.ask(request("xfs", HOSTNAME)) == (0, "")
    found = images.contents("xfs", disk, tmp_path / "found")
    assert (found / "unfinished").is_dir() and (found / "etc/hostname").read_text() == "web1\n"
    assert images.clean("xfs", disk)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "{",
        "[]",
        request("ext4"),
        request("squashfs"),
        request("xfs", vm_id="../a1"),
        request("xfs", vm_id="a1/../b1"),
        request("xfs", vm_id=""),
        request("xfs", path="/dev/sda"),
        request("xfs", {**HOSTNAME, "path": "etc/hostname"}),
        request("xfs", {**HOSTNAME, "path": "/etc/../hostname/"}),
        request("xfs", {**HOSTNAME, "mode": 0o4755}),
        request("xfs", {**HOSTNAME, "uid": -1}),
        request("xfs", {**HOSTNAME, "content": "x" * ((1 << 20) + 1)}),
        request("xfs", *[HOSTNAME] * 33),
        request("xfs", users=[{"name": f"u{number}"} for number in range(33)]),
        request("xfs", users=[{"name": "a:b"}]),
        request("xfs", users=[{"name": "ana", "ssh_keys": ["ssh-ed25519 two\nlines of it"]}]),
        request("xfs", users=[{"name": "ana", "password_hash": "x:0:0:"}]),
        request("xfs", network={"mac": "02:00:00:00:00:0A", "hostname": "web1"}),
        request("xfs", network={"mac": "02:00:00:00:00:0a", "hostname": "web1\nsource: /"}),
    ],
)
def test_a_wrong_request_touches_nothing_and_is_not_repeated(helper: Installed, wrong: object) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if isinstance(wrong, dict):
        wrong = {**wrong, "secret": "hunter2"} if "path" in wrong else wrong
    code, said = helper.ask(wrong)
    assert code == 2 and said.startswith("nqrust-helper: ")
    assert "hunter2" not in said and HASH not in said and len(said) < 300


def test_a_disk_is_mounted_read_only_first_and_nothing_in_it_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Flags of mount(2): MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC are 1, 2, 4, 8."""
    flags: list[int] = []
    monkeypatch.setattr(mounting, "_mount", lambda source, target, kind, given, data: flags.append(given))
    mount = mounting.Mount("/dev/loop0", "xfs", str(tmp_path / "run"))
    mount.__enter__()
    mount.writable()
    assert [given & 0b1111 for given in flags] == [0b1111, 0b1110]


def test_it_works_in_namespaces_of_its_own(kind: str, image: Path, helper: Installed) -> None:
    disk, seen = helper.disk(image), set()
    files = [{"path": f"/etc/many{number}", "content": "x" * (1 << 20), "mode": 0o644} for number in range(30)]
    process = helper.start(request(kind, *files))
    while process.poll() is None:
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if f" {kind} /dev/loop" in Path(f"/proc/{child}/mountinfo").read_text():
                    seen |= {n for n in ("mnt", "pid", "net", "ipc") if namespace(child, n) != namespace("self", n)}
        time.sleep(0.002)
    assert process.returncode == 0, process.communicate()
    assert seen == {"mnt", "pid", "net", "ipc"} and images.clean(kind, disk)


def test_the_checker_runs_as_the_user_of_the_vm(kind: str, image: Path, helper: Installed) -> None:
    user, seen = VM_USERS[4321], set[int]()
    os.chown(helper.disk(image), user, user)
    for _ in range(20):  # it is over in milliseconds
        process = helper.start(request(kind, HOSTNAME))
        while process.poll() is None:
            for one in below(process.pid):
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{one}/cmdline").read_bytes().split(b"\0")[:2] in (
                        [b"xfs_repair", b"-n"],
                        [b"btrfs", b"check"],
                    ):
                        seen.add(os.stat(f"/proc/{one}").st_uid)
        assert process.returncode == 0, process.communicate()
        if seen:
            break
    assert seen == {user}


_TAKEN_OVER = """#!/bin/sh
echo taken over >&2
chmod u+rw,g+rw "$2" && echo its own >&2
sh -c 'exec 3<>"$1"' sh "$2" && echo writes >&2
[ -r "$2" ] || echo reads nothing >&2
setsid sleep 77 >/dev/null 2>&1 &
exit 1
"""


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/loop-control").exists(), reason="needs root and a block device")
def test_a_checker_that_a_disk_took_over_writes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    program, user = tmp_path / "bin/xfs_repair", VM_USERS[4322]
    program.parent.mkdir()
    program.write_text(_TAKEN_OVER)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder.is_relative_to(os.environ.get("TMPDIR", "/tmp")):
            folder.chmod(0o755)
    program.chmod(0o755)

    class TakenOver(LocalHost):
        def run(self, cmd: Command, *, on_line: Callable[[str], None] | None = None) -> Completed:
            return super().run(replace(cmd, argv=tuple(str(program) if word == "xfs_repair" else word for word in cmd.argv)))

    os.mknod(tmp_path / "device", stat.S_IFBLK | 0o600, os.makedev(7, 250))
    umask = os.umask(0o077)
    try:
        node, _ = writer._for_checker(str(tmp_path / "device"), str(tmp_path / "checked"), user)
    finally:
        os.umask(umask)
    found = os.stat(node)
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o040, 0, user)
    with pytest.raises(CommandFailed) as failed:
        writer._check(TakenOver(), "xfs", node, user)
    assert "taken over" in failed.value.stderr
    assert not {"its own", "writes", "reads nothing"} & set(failed.value.stderr.splitlines())
    left = [one for one in Path("/proc").glob("[0-9]*") if one.exists() and one.stat().st_uid == user]
    assert left == []


def below(pid: int) -> list[int]:
    """The processes that this one has started, and those that they have."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(one for child in children for one in below(child))]


def namespace(process: str, kind: str) -> str:
    return os.readlink(f"/proc/{process}/ns/{kind}")
