"""The kernel of an image, and the VMMs that can boot it."""

from __future__ import annotations

import bz2
import gzip
import lzma
import time

import pytest
import zstandard

from nqrust.image import cpio
from nqrust.image.cloud import initrd_names, kernels
from nqrust.image.cloud.kernels import Drivers, Kernel

DEBIAN = [
    "System.map-6.1.0-9-cloud-amd64",
    *(f"{what}-6.1.0-{n}-cloud-amd64" for n in (9, 10) for what in ("config", "initrd.img", "vmlinuz")),
]
ROCKY = ["config-5.14.0-570.el9.x86_64", "initramfs-5.14.0-570.el9.x86_64.img", "vmlinuz-5.14.0-570.el9.x86_64",
         "initramfs-0-rescue-f00.img", "vmlinuz-0-rescue-f00", ".vmlinuz-5.14.0-570.el9.x86_64.hmac"]  # fmt: skip
ALPINE = ["config-6.12.31-0-virt", "initramfs-virt", "vmlinuz-virt", "grub"]


@pytest.mark.parametrize(
    ("names", "kernel"),
    [
        (
            DEBIAN,
            Kernel(
                "6.1.0-10-cloud-amd64",
                "vmlinuz-6.1.0-10-cloud-amd64",
                "initrd.img-6.1.0-10-cloud-amd64",
                "config-6.1.0-10-cloud-amd64",
            ),
        ),
        (
            ROCKY,
            Kernel("5.14.0-570.el9.x86_64", ROCKY[2], ROCKY[1], ROCKY[0]),
        ),
        (ALPINE, Kernel("virt", "vmlinuz-virt", "initramfs-virt", "config-6.12.31-0-virt")),
        (["vmlinuz-7", "vmlinuz-6", "initrd.img-6"], Kernel("6", "vmlinuz-6", "initrd.img-6")),
        (["grub", "efi"], None),
    ],
)
def test_newest_kernel_with_its_initrd(names: list[str], kernel: Kernel | None) -> None:
    assert kernels.newest(names) == kernel


CLOUD = "CONFIG_ACPI=y\nCONFIG_VIRTIO_PCI=m\nCONFIG_VIRTIO_BLK=m\nCONFIG_VIRTIO_MMIO=m\nCONFIG_EXT4_FS=m\n# CONFIG_XFS_FS is not set\n"
MODULES = ("virtio_pci", "virtio_blk", "virtio_mmio", "ext4")


@pytest.mark.parametrize(
    ("config", "modules", "kind", "qemu", "firecracker"),
    [
        (CLOUD, MODULES, "ext4", "", ""),
        (CLOUD, MODULES[:2] + MODULES[3:], "ext4", "", "virtio_mmio"),
        (CLOUD, MODULES[1:], "ext4", "virtio_pci", ""),
        (CLOUD, MODULES, "xfs", "xfs", "xfs"),
        (CLOUD.replace("=m", "=y"), (), "ext4", "", ""),
        (CLOUD.replace("CONFIG_ACPI=y\n", ""), MODULES, "ext4", "", "acpi"),
        (None, (), "ext4", "", ""),
    ],
)
def test_a_vmm_that_cannot_boot_it_is_told_with_the_driver(
    config: str | None, modules: tuple[str, ...], kind: str, qemu: str, firecracker: str
) -> None:
    drivers = Drivers(None if config is None else kernels.built_in(config), frozenset(modules))
    for told, wanted in zip(kernels.why_not(drivers, kind), (qemu, firecracker), strict=True):
        assert wanted in told and bool(told) == bool(wanted)


ARCHIVE = cpio.archive(
    [cpio.directory("usr"), cpio.file("usr/lib/modules/6.1/kernel/drivers/virtio/virtio_mmio.ko.xz", b"module " * 999, 0o644)]
)
EARLY = cpio.archive([cpio.file("kernel/x86/microcode/AuthenticAMD.bin", b"m" * 999, 0o644)])


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, bz2.compress, zstandard.compress])
@pytest.mark.parametrize("early", [b"", EARLY + bytes(-len(EARLY) % 512)])
def test_names_of_an_initrd_in_each_compression(pack: object, early: bytes) -> None:
    found = initrd_names.names(early + pack(ARCHIVE))  # type: ignore[operator]
    assert kernels.in_initrd(found) == {"virtio_mmio"}
    assert ("kernel/x86/microcode/AuthenticAMD.bin" in found) == bool(early)


@pytest.mark.parametrize(
    "content",
    [b"junk" * 99, ARCHIVE[:200], gzip.compress(ARCHIVE)[:60], gzip.compress(b"no cpio archive " * 20)],
    ids=["junk", "cut archive", "cut compression", "another file"],
)
def test_damaged_initrd_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"it|its"):
        initrd_names.names(content)


def test_initrd_that_claims_to_be_huge_is_refused() -> None:
    header = b"070701" + b"00000000" * 6 + b"FFFFFFFF" + b"00000000" * 4 + b"00000002" + b"00000000"
    with pytest.raises(ValueError, match="incomplete"):
        initrd_names.names(header + b"a\0")


def test_initrd_that_leads_back_to_its_own_start_is_refused() -> None:
    """The length of its name is negative: as many bytes as the header, back."""
    header = b"070701" + b"00000000" * 11 + b"-000006e" + b"00000000"
    with pytest.raises(ValueError, match="no number"):
        initrd_names.names(header + b"TRAILER!!!" + b"x" * 110)


def test_large_plain_initrd_is_read_at_once() -> None:
    files = [cpio.file(f"f{number}", bytes(30_000)) for number in range(1000)]
    started = time.monotonic()
    assert len(initrd_names.names(cpio.archive(files))) == 1000
    assert time.monotonic() - started < 10, "each name copied the rest"


def test_initrd_of_zeros_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initrd_names, "_LIMIT", 4 << 20)
    with pytest.raises(ValueError, match="too much"):
        initrd_names.names(gzip.compress(ARCHIVE + bytes(8 << 20)))


@pytest.mark.parametrize(("files", "length"), [(30_000, 0), (1_000, 4_000)], ids=["many", "long"])
def test_names_of_all_archives_together_are_bounded(files: int, length: int) -> None:
    """A few MiB of an image would otherwise take all memory of the host that imports it."""
    one = [cpio.archive([cpio.file(f"{part}/{n}{'x' * length}", b"") for n in range(files)]) for part in range(9)]
    with pytest.raises(ValueError, match="too many files"):
        initrd_names.names(gzip.compress(b"".join(one), 1))
    with pytest.raises(ValueError, match="too many files"):
        initrd_names.names(b"".join(one))


def test_initrd_that_needs_much_memory_is_refused() -> None:
    dictionary = (1 << 30).to_bytes(4, "little")
    with pytest.raises(ValueError, match=r"[Mm]emory"):
        initrd_names.names(b"\x5d" + dictionary + b"\xff" * 8 + bytes(64))
