"""Partition tables: no partition reaches outside of its disk, whatever the table says."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.live.image import cloud_disks as disks

from nqrust.image.cloud import partitions
from nqrust.image.cloud.partitions import Partition

MIB = 1 << 20


def test_gpt_of_a_cloud_image(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.write_bytes(bytes(8 * MIB))
    disk = disks.cloud_disk(root, tmp_path / "disk")
    found = partitions.parse(disk.read_bytes()[: partitions.HEAD], disk.stat().st_size)
    assert found == [
        Partition(1, 6 * MIB, 8 * MIB, True, str(disks.ROOT_ID)),
        Partition(14, 1 * MIB, 1 * MIB, False, str(disks.OTHER_ID)),
        Partition(15, 2 * MIB, 4 * MIB, False, str(disks.OTHER_ID)),
    ]


def mbr(*entries: tuple[int, int, int, int]) -> bytes:
    head = bytearray(512)
    for number, (flag, kind, first, count) in enumerate(entries):
        struct.pack_into("<B3sB3sII", head, 446 + 16 * number, flag, b"", kind, b"", first, count)
    struct.pack_into("<I", head, 440, 0x1234ABCD)
    head[510:512] = b"\x55\xaa"
    return bytes(head)


@pytest.mark.parametrize(
    ("entries", "numbers"),
    [
        ([(0x80, 0x83, 2048, 2048)], [1]),
        ([(0, 0x82, 2048, 64), (0, 0x83, 4096, 64)], [2]),
        ([(0, 0x05, 2048, 64)], []),
        ([(0, 0xEE, 1, 4000)], []),
        ([(0, 0x83, 2048, 1 << 30)], []),
        ([(0x17, 0x83, 2048, 64)], []),  # the start of a file system
        ([(0, 0x83, 0, 64)], []),
    ],
)
def test_mbr(entries: list[tuple[int, int, int, int]], numbers: list[int]) -> None:
    assert [one.number for one in partitions.parse(mbr(*entries), 4 * MIB)] == numbers


def test_disk_without_a_table_has_no_partitions() -> None:
    assert partitions.parse(bytes(partitions.HEAD), 64 * MIB) == []


_ENTRY = st.builds(lambda kind, first, last: kind + bytes(16) + struct.pack("<QQ", first, last) + bytes(80),
                   st.binary(min_size=16, max_size=16), *[st.integers(0, 2**64 - 1) | st.integers(0, 9000)] * 2)  # fmt: skip


@given(
    st.lists(_ENTRY, max_size=6),
    st.integers(0, 2**64 - 1) | st.just(2),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1) | st.just(128),
)
def test_hostile_gpt_stays_inside_the_disk(entries: list[bytes], where: int, count: int, length: int) -> None:
    header = b"EFI PART".ljust(72, b"\0") + struct.pack("<QII", where, count, length)
    head = bytes(512) + header.ljust(512, b"\0") + b"".join(entries)
    for one in partitions.parse(head.ljust(32768, b"\0"), 4 * MIB):
        assert one.start > 0 and one.size > 0 and one.start + one.size <= 4 * MIB


@given(st.binary(min_size=512, max_size=2048))
def test_any_bytes_get_an_answer(head: bytes) -> None:
    for one in partitions.parse(head, MIB):
        assert one.start + one.size <= MIB


def test_partitions_that_overlap_are_taken_once() -> None:
    """Each is copied: many names of the same bytes would fill the disk of the host."""
    found = partitions.parse(mbr((0, 0x83, 2048, 4096), (0, 0x83, 2048, 4096), (0, 0x83, 4096, 64), (0, 0x83, 6144, 64)), 8 * MIB)
    assert [one.number for one in found] == [1, 4]
