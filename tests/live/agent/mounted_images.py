"""Small XFS and Btrfs images for tests, an installed helper in a folder of its own, and looks into disks. Every mount of
a test is in a mount namespace that ends with the program that made it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.places import HELPER

KINDS = ("xfs", "btrfs")
SIZES = {"xfs": 300, "btrfs": 128}  # MiB; XFS is not made smaller
_PROGRAMS = {"xfs": ("mkfs.xfs", "xfs_repair", "xfs_growfs", "xfs_io"), "btrfs": ("mkfs.btrfs", "btrfs")}


def why_not(kind: str) -> str:
    """What is missing on this machine; empty when file systems of this type can be made and mounted."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [program for program in (*_PROGRAMS[kind], "unshare", "prlimit") if shutil.which(program) is None]
    if missing:
        return f"{' '.join(missing)} is not installed"
    if not os.path.exists("/dev/loop-control"):
        return "there are no loop devices"
    if f"\t{kind}\n" not in Path("/proc/filesystems").read_text():
        return f"the kernel does not know {kind}"
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True)
    return "" if done.returncode == 0 else f"no mount namespaces here: {done.stderr.strip()}"


def _mounted(disk: Path, script: str, *arguments: str, options: str = "loop") -> None:
    """Run a shell script with the disk mounted at $1, further arguments from $2 on."""
    point = disk.parent / "mounted"
    point.mkdir(exist_ok=True)
    whole = f'mount -o {options} "$0" "$1" && {{ {script}; }}; code=$?; umount "$1"; exit $code'
    subprocess.run(["unshare", "--mount", "sh", "-c", whole, str(disk), str(point), *arguments], check=True, capture_output=True)
    point.rmdir()


def make(kind: str, path: Path, tree: Path) -> Path:
    """A file system with what is in `tree`: links, nodes, owners and all."""
    with open(path, "wb") as file:
        file.truncate(SIZES[kind] << 20)
    subprocess.run([f"mkfs.{kind}", "-q", str(path)], check=True, capture_output=True)
    _mounted(path, 'cp -a "$2/." "$1/"', str(tree))
    return path


def contents(kind: str, disk: Path, folder: Path) -> Path:
    """What is in the disk, copied into a new `folder`."""
    folder.mkdir()
    _mounted(disk, 'cp -a "$1/." "$2/"', str(folder), options="loop,ro" + (",nouuid" if kind == "xfs" else ""))
    return folder


def size(kind: str, disk: Path) -> int:
    """Bytes that the file system has, as its own tools tell."""
    if kind == "xfs":
        told = subprocess.run(
            ["xfs_db", "-r", "-c", "sb 0", "-c", "p dblocks", str(disk)], check=True, capture_output=True, text=True
        )
        return int(told.stdout.split("=")[1]) * 4096
    told = subprocess.run(["btrfs", "inspect-internal", "dump-super", str(disk)], check=True, capture_output=True, text=True)
    return int(next(line.split()[1] for line in told.stdout.splitlines() if line.startswith("total_bytes")))


def clean(kind: str, disk: Path) -> bool:
    checker = ["xfs_repair", "-n", "-f"] if kind == "xfs" else ["btrfs", "check", "--readonly"]
    return subprocess.run([*checker, str(disk)], capture_output=True).returncode == 0


def leave_a_dirty_log(disk: Path) -> None:
    """An XFS that was cut off in the middle of its work, as when a VM is killed."""
    _mounted(disk, 'mkdir "$1/unfinished" && xfs_io -x -c "shutdown -f" "$1"')


def attached(disk: Path) -> bool:
    """Whether a loop device is attached to the file."""
    return bool(subprocess.run(["losetup", "-j", str(disk)], check=True, capture_output=True, text=True).stdout)


def plain_tree(folder: Path) -> Path:
    """A root file system in small."""
    for name in ("etc", "root", "bin", "home"):
        (folder / name).mkdir(parents=True)
    (folder / "etc/hostname").write_text("image\n")
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nold:x:1000:1000::/home/old:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\nold:x:1000:\n")
    (folder / "etc/shadow").write_text("root:*:1::::::\nold:!:1::::::\n")
    (folder / "etc/shadow").chmod(0o640)
    return folder


@dataclass(frozen=True)
class Installed:
    """The helper as an installation has it, for the data folder `data`."""

    path: Path
    data: Path

    def folder(self, vm_id: str = "a1") -> Path:
        return self.data / "vms" / vm_id

    def disk(self, image: Path, vm_id: str = "a1", mib: int | None = None) -> Path:
        """A VM's copy of the image, longer where `mib` says so."""
        self.folder(vm_id).mkdir(parents=True)
        disk = self.folder(vm_id) / "disk.ext4"
        subprocess.run(["cp", "--sparse=always", str(image), str(disk)], check=True)
        if mib:
            os.truncate(disk, mib << 20)
        return disk

    def start(self, request: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["sh", str(self.path), "disk-write"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(request if isinstance(request, str) else json.dumps(request))
        process.stdin.close()
        process.stdin = None
        return process

    def ask(self, request: object) -> tuple[int, str]:
        """Exit code, and the answer's error code (or what was said where there is no answer)."""
        process = self.start(request)
        stdout, stderr = process.communicate(timeout=300)
        return process.returncode, json.loads(stdout)["code"] if stdout else stderr


def install(folder: Path) -> Installed:
    path, data = folder / "opt/libexec/nqrust-helper", folder / "fc"
    path.parent.mkdir(parents=True)
    (data / "vms").mkdir(parents=True)
    path.write_bytes(HELPER.read_bytes())
    path.chmod(0o755)
    (path.parent / "data-dir").write_text(f"{data}\n")
    (folder / "opt/current").mkdir()
    (folder / "opt/current/venv").symlink_to(sys.prefix)
    return Installed(path, data)


Change = Callable[[Path], None]
