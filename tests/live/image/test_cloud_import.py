"""Disk images like those of clouds become images of the platform, with real programs in the sandbox."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from tests.live.agent.journals import debugfs, dirty, leave_in_journal
from tests.live.image import cloud_disks as disks

from nqrust.host.local import LocalHost
from nqrust.image import cpio
from nqrust.image.cloud import catalogue, disk, fetching, importing
from nqrust.image.cloud.importing import Imported
from nqrust.image.errors import ImageError
from nqrust.image.progress import silent

_NEEDS = ("qemu-img", "mke2fs", "debugfs", "e2fsck", "unshare", "setpriv", "prlimit")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or bool(disks.has(*_NEEDS)), reason=f"needs root and {' '.join(disks.has(*_NEEDS) or _NEEDS)}"
)
VERSION = "6.1.0-9-cloud-amd64"
CONFIG = "CONFIG_ACPI=y\nCONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_MMIO=m\nCONFIG_EXT4_FS=y\nCONFIG_XFS_FS=y\nCONFIG_BTRFS_FS=y\n"
ELF = b"\x7fELF" + b"kernel " * 9000
Edit = Callable[[Path], None]


@pytest.fixture
def work() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nqr-"))
    folder.chmod(0o711)  # the user of the sandbox passes through it
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def tree(folder: Path, modules: tuple[str, ...] = ("virtio_mmio",)) -> Path:
    """A root file system with all that an import looks at."""
    for name in ("boot", "etc/systemd/system/multi-user.target.wants", "usr/lib", "usr/sbin", "sbin"):
        (folder / name).mkdir(parents=True)
    (folder / "usr/lib/os-release").write_text('ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    (folder / "etc/os-release").symlink_to("../usr/lib/os-release")
    (folder / "etc/fstab").write_text(disks.FSTAB)
    (folder / "etc/systemd/system/multi-user.target.wants/ssh.service").symlink_to("/lib/systemd/system/ssh.service")
    (folder / f"boot/vmlinuz-{VERSION}").write_bytes(ELF)
    (folder / f"boot/config-{VERSION}").write_text(CONFIG)
    names = [cpio.file(f"usr/lib/modules/{VERSION}/kernel/{name}.ko", b"module", 0o644) for name in modules]
    (folder / f"boot/initrd.img-{VERSION}").write_bytes(zstandard.compress(cpio.archive([cpio.directory("usr"), *names])))
    return folder


def imported(work: Path, source: Path, **options: str) -> Imported:
    host = LocalHost()
    (work / "images").mkdir(exist_ok=True)
    agent = work / "guest-agent"
    agent.write_bytes(b"\x7fELF the guest agent")
    return importing.build(
        host,
        source=fetching.from_file(host, str(source), None, silent),
        target_dir=str(work / "images" / "deb"),
        name="deb",
        format=options.get("format"),
        guest_agent=str(agent),
    )


def told(image: Path, command: str) -> str:
    return subprocess.run(["debugfs", "-R", command, str(image)], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("format", "options"), [("qcow2", ("-c",)), ("raw", ()), ("vmdk", ()), ("vmdk", ("-o", "subformat=streamOptimized"))]
)
def test_disk_of_each_format_becomes_an_image(work: Path, format: str, options: tuple[str, ...]) -> None:
    raw = disks.cloud_disk(disks.ext4(tree(work / "tree"), work / "root", 32), work / "raw")
    made = imported(work, disks.converted(raw, work / "disk.img", format, *options))
    image = work / "images/deb"
    assert sorted(path.name for path in image.iterdir()) == ["image.json", "initrd.cpio", "rootfs.ext4", "vmlinux", "vmlinuz"]
    assert {(path.stat().st_mode & 0o777, path.stat().st_uid) for path in image.iterdir()} == {(0o644, 0)}
    assert (image / "vmlinux").read_bytes() == (image / "vmlinuz").read_bytes() == ELF
    assert (made.not_firecracker, made.unsure, made.guest_agent) == ("", False, True)
    assert made.manifest.description == "Debian GNU/Linux 12 (bookworm)"
    rootfs = image / "rootfs.ext4"
    assert hashlib.sha256(rootfs.read_bytes()).hexdigest() == made.manifest.rootfs.sha256
    assert "/dev/vda / ext4" in told(rootfs, "cat /etc/fstab") and "\nPARTUUID" not in told(rootfs, "cat /etc/fstab")
    assert told(rootfs, "cat /usr/sbin/nqr-guest-agent") == "\x7fELF the guest agent"
    assert "ExecStart=/usr/sbin/nqr-guest-agent" in told(rootfs, "cat /etc/systemd/system/nqr-guest-agent.service")
    link = told(rootfs, "stat /etc/systemd/system/multi-user.target.wants/nqr-guest-agent.service")
    assert 'link dest: "/etc/systemd/system/nqr-guest-agent.service"' in link
    assert "Mode:  0755" in told(rootfs, "stat /usr/sbin/nqr-guest-agent")
    assert subprocess.run(["e2fsck", "-fn", str(rootfs)], check=False).returncode == 0
    assert [path.name for path in (work / "images").iterdir()] == ["deb"], "no scratch folder is left"


def test_disk_with_an_mbr_and_one_without_a_table(work: Path) -> None:
    root = disks.ext4(tree(work / "tree"), work / "root", 32)
    assert imported(work, disks.mbr(work / "mbr", root)).guest_agent
    assert imported(work, root).guest_agent


def test_boot_partition_of_its_own(work: Path) -> None:
    folder = tree(work / "tree")
    (folder / "boot").rename(work / "boot")
    (folder / "boot").mkdir()
    boot, root = disks.ext4(work / "boot", work / "boot.img", 16), disks.ext4(folder, work / "root", 32)
    disk = disks.gpt(work / "disk", [disks.Part(16, disks.LINUX, boot), disks.Part(1, disks.LINUX, root, disks.ROOT_ID)])
    assert imported(work, disk).manifest.kernel.size == len(ELF)


@pytest.mark.parametrize("whole", [True, False])
def test_disk_of_a_killed_machine_is_read_and_written_after_its_journal(work: Path, whole: bool) -> None:
    root, own, kernel = disks.ext4(tree(work / "tree"), work / "root", 32), work / "own", work / "kernel"
    own.write_text("of the guest\n")
    kernel.write_bytes(ELF + b"upgraded")
    upgrade = ["cd /boot", f"rm vmlinuz-{VERSION}", f"write {kernel} vmlinuz-{VERSION}"]
    leave_in_journal(root, "mkdir /srv", "cd /srv", *(f"write {own} file{n}" for n in range(12)), *upgrade)
    made = imported(work, root if whole else disks.cloud_disk(root, work / "raw"))
    rootfs = work / "images/deb/rootfs.ext4"
    assert not dirty(rootfs) and subprocess.run(["e2fsck", "-fn", str(rootfs)], check=False).returncode == 0
    assert [told(rootfs, f"cat /srv/file{n}") for n in range(12)] == ["of the guest\n"] * 12
    assert told(rootfs, "cat /usr/sbin/nqr-guest-agent") == "\x7fELF the guest agent"
    assert made.manifest.kernel.size == len(ELF) + len("upgraded")


def test_file_system_that_only_a_guess_repairs_is_refused(work: Path) -> None:
    root = disks.ext4(tree(work / "tree"), work / "root", 32)
    debugfs(root, "mkdir /var", "set_inode_field /var mode 0", "set_super_value state 2")
    with pytest.raises(ImageError) as caught:
        imported(work, disks.cloud_disk(root, work / "disk"))
    assert caught.value.code == "NQR-IMG-057" and "RUN fsck MANUALLY" in caught.value.what
    assert list((work / "images").iterdir()) == []


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_root_file_system_that_grub_reads(work: Path, kind: str) -> None:
    if disks.has("grub-fstest", f"mkfs.{kind}"):
        pytest.skip(f"needs grub-fstest and mkfs.{kind}")
    folder = tree(work / "tree")
    with (work / "root").open("wb") as file:
        file.truncate(400 << 20)
    if kind == "btrfs":
        subprocess.run(["mkfs.btrfs", "-q", "-r", str(folder), str(work / "root")], check=True, capture_output=True)
    else:
        proto = ["/", "0 0", "d--755 0 0", "boot d--755 0 0"]
        proto += [f"{path.name} ---644 0 0 {path}" for path in sorted((folder / "boot").iterdir())]
        proto += [
            "$",
            "etc d--755 0 0",
            f"os-release ---644 0 0 {folder}/usr/lib/os-release",
            f"fstab ---644 0 0 {folder}/etc/fstab",
            "$",
            "$",
        ]
        (work / "proto").write_text("\n".join(proto) + "\n")
        subprocess.run(["mkfs.xfs", "-q", "-p", str(work / "proto"), str(work / "root")], check=True, capture_output=True)
    made = imported(work, disks.cloud_disk(work / "root", work / "disk"))
    assert (made.manifest.rootfs_type, made.manifest.cmdline) == (kind, "fstab=no")
    assert not made.guest_agent and made.manifest.kernel.size == len(ELF)


def _no_kernel(folder: Path) -> None:
    (folder / f"boot/vmlinuz-{VERSION}").unlink()


def _no_driver(folder: Path) -> None:
    (folder / f"boot/config-{VERSION}").write_text(CONFIG.replace("VIRTIO_PCI=y", "VIRTIO_PCI=m"))


def _no_release(folder: Path) -> None:
    (folder / "usr/lib/os-release").unlink()


def _bad_initrd(folder: Path) -> None:
    (folder / f"boot/initrd.img-{VERSION}").write_bytes(b"junk" * 999)


def _links_out(folder: Path) -> None:
    (folder / f"boot/vmlinuz-{VERSION}").unlink()
    (folder / f"boot/vmlinuz-{VERSION}").symlink_to("../../../../../../etc/shadow")


@pytest.mark.parametrize(
    ("edit", "code", "word"),
    [
        (_no_kernel, "NQR-IMG-054", "no kernel"),
        (_links_out, "NQR-IMG-054", "no kernel"),
        (_no_driver, "NQR-IMG-055", "virtio_pci"),
        (_no_release, "NQR-IMG-050", "found: ext4, unknown, unknown"),
        (_bad_initrd, "NQR-IMG-054", "initrd"),
    ],
)
def test_image_that_cannot_boot_is_refused_before_it_is_there(work: Path, edit: Edit, code: str, word: str) -> None:
    folder = tree(work / "tree")
    edit(folder)
    with pytest.raises(ImageError) as caught:
        imported(work, disks.cloud_disk(disks.ext4(folder, work / "root", 32), work / "disk"))
    assert caught.value.code == code and word in caught.value.what
    assert list((work / "images").iterdir()) == []


def test_image_without_a_driver_for_firecracker_says_so(work: Path) -> None:
    made = imported(work, disks.ext4(tree(work / "tree", modules=()), work / "root", 32))
    assert made.not_firecracker == "its kernel and initrd lack virtio_mmio" and made.manifest.kernel_elf is None
    assert not (work / "images/deb/vmlinux").exists()


def test_disk_that_leads_to_files_of_the_host_is_refused(work: Path) -> None:
    secret = work / "secret"
    secret.write_bytes(b"root:x" * 4096)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(secret), str(work / "backed")], check=True)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={work}/data,data_file_raw=on", str(work / "outer"), "1M"],
        check=True,
    )
    (work / "flat").write_text(f'# Disk DescriptorFile\ncreateType="monolithicFlat"\nRW 8 FLAT "{secret}" 0\n')
    for name in ("backed", "outer", "flat"):
        with pytest.raises(ImageError) as caught:
            imported(work, work / name)
        assert caught.value.code == "NQR-IMG-051", name


@pytest.mark.parametrize(("size", "code"), [(100 << 30, "NQR-IMG-053"), (0, "NQR-IMG-053")])
def test_size_of_the_disk_is_bounded(work: Path, size: int, code: str) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(work / "disk"), str(size)], check=True)
    with pytest.raises(ImageError) as caught:
        imported(work, work / "disk")
    assert caught.value.code == code


def test_damaged_disk_and_a_wrong_format_are_refused(work: Path) -> None:
    (work / "junk").write_bytes(b"QFI\xfb\0\0\0\3" + b"\xff" * 4096)
    with pytest.raises(ImageError) as caught:
        imported(work, work / "junk")
    assert caught.value.code == "NQR-IMG-051"
    (work / "raw").write_bytes(bytes(1 << 20))
    with pytest.raises(ImageError) as caught:
        imported(work, work / "raw", format="qcow2")
    assert caught.value.code == "NQR-IMG-051"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def publisher(work: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address where it is served."""
    folder = work / "published"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("fault", ["", "checksum", "list", "image"])
def test_catalogue_of_the_site_from_its_server(work: Path, publisher: tuple[Path, str], fault: str) -> None:
    folder, address = publisher
    raw = disks.cloud_disk(disks.ext4(tree(work / "tree"), work / "root", 32), work / "raw")
    disk = disks.converted(raw, folder / "own-1-amd64.qcow2", "qcow2", "-c")
    digest = hashlib.sha512(disk.read_bytes() + (b"x" if fault == "checksum" else b"")).hexdigest()
    (folder / "SHA512SUMS").write_text("" if fault == "list" else f"{digest}  own-1-amd64.qcow2\n")
    if fault == "image":
        disk.unlink()
    own = {"name": "own:1", "url": f"{address}/own-1-amd64.qcow2", "checksums": f"{address}/SHA512SUMS"}
    (work / "catalogue.json").write_text(json.dumps({"images": [own]}))
    host = LocalHost()
    found = catalogue.resolve("own:1", catalogue.read(host, str(work / "catalogue.json")))
    assert found is not None
    (work / "images").mkdir()

    def build() -> Imported:
        return importing.build(host, source=catalogue.fetch(host, found, silent), target_dir=str(work / "images/own"), name="own")

    if not fault:
        assert build().manifest.name == "own"
        return
    with pytest.raises(ImageError) as caught:
        build()
    assert caught.value.code == {"checksum": "NQR-IMG-059", "list": "NQR-IMG-061", "image": "NQR-IMG-058"}[fault]
    assert list((work / "images").iterdir()) == []


def test_publisher_out_of_reach_is_named_with_a_cure(work: Path) -> None:
    host = LocalHost()
    with pytest.raises(ImageError) as caught:
        fetching.from_url(host, "http://127.0.0.1:9/disk.qcow2", "a" * 64, silent)(str(work / "disk"))
    assert caught.value.code == "NQR-IMG-058" and "127.0.0.1:9" in caught.value.what and "proxy" in caught.value.cure
    assert not (work / "disk").exists()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_checksum_of_a_file_is_checked(work: Path, algorithm: str) -> None:
    (work / "disk").write_bytes(b"disk")
    host, good = LocalHost(), hashlib.new(algorithm, b"disk").hexdigest()
    fetching.from_file(host, str(work / "disk"), good, silent)(str(work / "copy"))
    with pytest.raises(ImageError) as caught:
        fetching.from_file(host, str(work / "disk"), good[:-1] + ("0" if good[-1] != "0" else "1"), silent)(str(work / "copy"))
    assert caught.value.code == "NQR-IMG-059"


def test_programs_in_the_sandbox_reach_nothing(work: Path) -> None:
    from nqrust.image.cloud.sandbox import opened

    sandbox = opened(LocalHost(), str(work / "scratch"), 1 << 20)
    seen = sandbox.run(
        "sh", "-c", "id -u; id -G; sed 1,2d /proc/net/dev; grep CapEff /proc/self/status; ls -A /var/tmp /run; ps -e 2>&1 | wc -l"
    ).stdout
    assert seen.splitlines()[:2] == [str(sandbox.user)] * 2 and seen.splitlines()[2].split()[0] == "lo:"
    assert "CapEff:\t0000000000000000" in seen and seen.count("\n") <= 9
    assert sandbox.run("grep", "Seccomp:", "/proc/self/status").stdout.split() == ["Seccomp:", "2"]
    assert sandbox.run("unshare", "--user", "true", ok=tuple(range(256))).code != 0, "under the filter nobody gets capabilities"
    assert sandbox.run("cat", "/proc/self/oom_score_adj").stdout == "1000\n", "no VM ends for its memory"
    for command in ("cat /etc/shadow", f"echo x > {work}/out", "head -c 9M /dev/zero > big"):
        assert sandbox.run("sh", "-c", command, ok=tuple(range(256))).code != 0, command
    assert sandbox.size("big") <= 1 << 20


def test_disk_whose_data_does_not_fit_is_refused_before_it_is_unpacked(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, packed = work / "plain", work / "packed"
    plain.write_bytes(b"x" * (64 << 20))
    subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", plain, packed], check=True)
    assert packed.stat().st_size < 2 << 20
    found = dataclasses.replace(LocalHost().disk_usage("/"), available=disk.KEPT_FREE + (127 << 20))
    monkeypatch.setattr(LocalHost, "disk_usage", lambda self, path: found)
    with pytest.raises(ImageError) as error:
        imported(work, packed)
    assert error.value.code == "NQR-IMG-091" and not (work / "images" / "deb").exists()


def test_download_that_does_not_fit_ends_before_the_disk_is_full(
    work: Path, publisher: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest of what comes is known at the end only."""
    folder, address = publisher
    (folder / "large").write_bytes(bytes(64 << 20))
    wrote: list[int] = []
    usage = LocalHost().disk_usage("/")
    monkeypatch.setattr(fetching, "_LOOK", 1 << 20)

    def left(self: LocalHost, path: str) -> object:
        wrote.append(1)
        return dataclasses.replace(usage, available=disk.KEPT_FREE + ((4 - len(wrote)) << 20))

    monkeypatch.setattr(LocalHost, "disk_usage", left)
    with pytest.raises(ImageError) as error:
        fetching.from_url(LocalHost(), f"{address}/large", "a" * 64, silent)(str(work / "disk"))
    assert error.value.code == "NQR-IMG-091" and len(wrote) < 6 and list(work.glob("*disk*")) == []


def test_raw_disk_whose_file_systems_do_not_fit_is_refused(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = work / "plain"
    plain.write_bytes(b"x" * (64 << 20))
    found = dataclasses.replace(LocalHost().disk_usage("/"), available=disk.KEPT_FREE + (63 << 20))
    monkeypatch.setattr(LocalHost, "disk_usage", lambda self, path: found)
    with pytest.raises(ImageError) as error:
        imported(work, plain)
    assert error.value.code == "NQR-IMG-091" and not (work / "images" / "deb").exists()
