"""Imported cloud images boot under emulation: a small one on each run, and a Debian with cloud-init and SSH in the long matrix."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.live.image import cloud_disks as disks
from tests.machine_scripts import emulation
from tests.machine_scripts.calling import run_script
from tests.places import ROOT

from nqrust.host.local import LocalHost
from nqrust.image.cloud import fetching, importing
from nqrust.image.cloud.importing import Imported
from nqrust.image.guest_agent import build_guest_agent, find_program
from nqrust.image.progress import silent

pytestmark = pytest.mark.hosts
_PACKAGES = (
    "systemd-sysv,udev,dbus,cloud-init,linux-image-cloud-amd64,initramfs-tools,openssh-server,ifupdown,isc-dhcp-client,iproute2,"
    "netbase,ca-certificates,sudo,e2fsprogs"
)


@pytest.fixture
def work() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nqr-"))  # short: Unix sockets go below it
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def imported(work: Path, disk: Path, guest_agent: str | None) -> Imported:
    (work / "images").mkdir()
    host = LocalHost()
    source = fetching.from_file(host, str(disk), None, silent)
    return importing.build(host, source=source, target_dir=str(work / "images/cloud"), name="cloud", guest_agent=guest_agent)


def test_small_image_boots_from_its_cloud_disk(tiny_image: Path, work: Path) -> None:
    """The platform's small guest, packed as clouds do: partitions, qcow2, the kernel inside."""
    if disks.has("qemu-img"):
        pytest.skip("needs qemu-img")
    root = work / "root"
    shutil.copy(tiny_image / "rootfs.ext4", root)
    subprocess.run(["truncate", "-s", "96M", str(root)], check=True)
    subprocess.run(["resize2fs", str(root)], check=True, capture_output=True)
    puts = f"cd /boot\nwrite {tiny_image}/vmlinuz vmlinuz-6\nwrite {tiny_image}/initrd.cpio initrd.img-6\n"
    subprocess.run(
        ["debugfs", "-w", "-f", "/dev/stdin", str(root)], input=f"mkdir /boot\n{puts}", text=True, check=True, capture_output=True
    )
    disk = disks.converted(disks.cloud_disk(root, work / "raw"), work / "disk.qcow2", "qcow2", "-c")
    made = imported(work, disk, None)
    assert made.manifest.description == "NQRust tiny guest" and made.unsure
    said = until_login(work / "images/cloud", work / "root.copy")
    assert b"login:" in said, said[-3000:].decode(errors="replace")


def until_login(image: Path, disk: Path) -> bytes:
    """Boot the image under emulation, and return its console up to the login."""
    shutil.copy(image / "rootfs.ext4", disk)
    machine, said = emulation.start(image, disk, 256), b""
    assert machine.stdout is not None
    try:
        deadline = time.monotonic() + 300
        while b"login:" not in said and time.monotonic() < deadline:
            ready, _, _ = select.select([machine.stdout], [], [], 5)
            piece = os.read(machine.stdout.fileno(), 65536) if ready else b" "
            if not piece:
                break
            said += piece
    finally:
        machine.kill()
        machine.wait()
    return said


def debian(work: Path) -> Path:
    """A Debian as its cloud images are: cloud-init, no SSH host keys, no machine id, an fstab with partitions."""
    archive = Path(os.environ.get("NQR_TEST_CACHE", "/var/tmp/nqrust-test-cache")) / "cloud-bookworm.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        argv = [
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--format=tar",
            "--variant=minbase",
            f"--include={_PACKAGES}",
            "bookworm",
            f"{archive}.new",
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"packages are out of reach: {done.stderr[-300:]}")
        Path(f"{archive}.new").rename(archive)
    tree = work / "tree"
    tree.mkdir()
    subprocess.run(["tar", "-xf", str(archive), "-C", str(tree), "--exclude=./dev/*"], check=True)
    (tree / "etc/fstab").write_text(disks.FSTAB)
    (tree / "etc/machine-id").write_text("")
    for key in (tree / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    raw = disks.cloud_disk(disks.ext4(tree, work / "root", 1200), work / "raw")
    shutil.rmtree(tree)
    return disks.converted(raw, work / "debian.qcow2", "qcow2", "-c")


@pytest.mark.matrix
@pytest.mark.timeout(2400)
def test_debian_boots_with_cloud_init_and_takes_a_key(work: Path) -> None:
    lacking = disks.has("qemu-img", "mmdebstrap", "ssh", "ssh-keygen", "dnsmasq")
    host = LocalHost()
    if lacking or not find_program(host, "rustc"):
        pytest.skip(f"needs {' '.join(lacking) or 'a Rust compiler'}")
    agent = str(work / "guest-agent")
    build_guest_agent(host, str(ROOT / "guest-agent"), agent)
    made = imported(work, debian(work), agent)
    assert (made.not_firecracker, made.guest_agent, made.manifest.ssh_server) == ("", True, True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(work / "key")], check=True)
    site = work / "site"
    site.mkdir(mode=0o711)
    seen: dict[str, Any] = run_script(
        "cloud_guest.py", work / "images/cloud", site, work / "key", namespaces=("net", "mount"), seconds=1800
    )
    assert (seen["state"], seen["network"]) == ("running", "DHCP, by cloud-init")
    assert (seen["host"], seen["data"], seen["root"].split()) == ("cloud1", "it was read", ["/dev/vda", "ext4"])
    assert seen["agent"] == "active" and seen["report"]["hostname"] == "cloud1" and seen["report"]["gateway_reachable"]
    assert int(seen["mebibytes"]) > 1800, "the file system was grown with the disk"
    assert seen["host key"].startswith("ssh-ed25519 ") and seen["failed"] == ""
