"""A disk image that names other files is refused before a program opens it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nqrust.image.cloud import formats

DESCRIPTOR = '# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\ncreateType="monolithicSparse"\nRW 2048 SPARSE "d.vmdk"\n'


def qcow2(*, version: int = 3, backing: int = 0, encryption: int = 0, incompatible: int = 0) -> bytes:
    head = b"QFI\xfb" + struct.pack(">IQIIQI", version, backing, 0, 16, 1 << 30, encryption)
    return head.ljust(72, b"\0") + struct.pack(">Q", incompatible) + bytes(400)


def vmdk(text: str = DESCRIPTOR, *, capacity: int = 2048, start: int = 1) -> bytes:
    header = b"KDMV" + struct.pack("<IIQQQQ", 1, 3, capacity, 128, start, 20)
    return header.ljust(512, b"\0") + text.encode().ljust(20 * 512, b"\0")


def two_descriptors() -> bytes:
    """The header leads to a harmless one, and QEMU to that in sector 1."""
    image = bytearray(vmdk(DESCRIPTOR + 'parentFileNameHint="/etc/shadow"\n'))
    struct.pack_into("<QQ", image, 28, 11, 10)
    image[11 * 512 :] = DESCRIPTOR.encode().ljust(10 * 512, b"\0")
    return bytes(image)


@pytest.mark.parametrize(
    ("head", "format"),
    [(qcow2(), "qcow2"), (vmdk(), "vmdk"), (DESCRIPTOR.encode(), "vmdk"), (b"\xeb\x63\x90GRUB", "raw"), (b"", "raw")],
)
def test_format_is_told_by_the_first_bytes(head: bytes, format: str) -> None:
    assert formats.detect(head) == format


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (qcow2(), ""),
        (qcow2(version=2), ""),
        (qcow2(backing=0x200), "backing file"),
        (qcow2(version=2, backing=0x200), "backing file"),
        (qcow2(encryption=1), "encrypted"),
        (qcow2(encryption=2), "encrypted"),
        (qcow2(incompatible=4), "in another file"),
        (qcow2(incompatible=1), ""),
        (qcow2(version=7), "version 7"),
        (qcow2()[:60], "incomplete"),
        (b"raw bytes", "incomplete"),
    ],
)
def test_qcow2_with_other_files_is_refused(head: bytes, why: str) -> None:
    assert why in formats.outside("qcow2", head)
    assert bool(formats.outside("qcow2", head)) == bool(why)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (vmdk(), ""),
        (vmdk(DESCRIPTOR.replace("monolithicSparse", "streamOptimized")), ""),
        (DESCRIPTOR.encode(), "other files"),
        (vmdk(DESCRIPTOR.replace("monolithicSparse", "monolithicFlat")), "monolithicFlat"),
        (vmdk(DESCRIPTOR.replace("ffffffff", "7d970945")), "parent"),
        (vmdk(DESCRIPTOR + 'parentFileNameHint="/etc/shadow"\n'), "parent"),
        (vmdk(DESCRIPTOR + 'RW 2048 FLAT "/etc/shadow" 0\n'), "other files"),
        (vmdk(DESCRIPTOR.replace('SPARSE "d.vmdk"', 'FLAT "/etc/shadow" 0')), "other files"),
        (vmdk(capacity=0), "descriptor"),
        (vmdk(start=1 << 40), "descriptor"),
        (two_descriptors(), "descriptor"),
        (vmdk("nothing"), "unknown"),
        (b"KDMV", "incomplete"),
    ],
)
def test_vmdk_with_other_files_is_refused(head: bytes, why: str) -> None:
    assert why in formats.outside("vmdk", head)
    assert bool(formats.outside("vmdk", head)) == bool(why)


@pytest.mark.parametrize(
    ("head", "name"), [(b"vhdxfile", "VHDX"), (b"\x1f\x8b\x08", "gzip"), (b"\xfd7zXZ\0", "xz"), (b"raw", "")]
)
def test_formats_that_are_not_supported_have_a_name(head: bytes, name: str) -> None:
    assert formats.unsupported(head) == name


@given(st.binary(max_size=700), st.sampled_from([b"QFI\xfb", b"KDMV", b""]))
def test_any_bytes_get_an_answer(tail: bytes, magic: bytes) -> None:
    head = magic + tail
    assert isinstance(formats.outside(formats.detect(head), head), str)
