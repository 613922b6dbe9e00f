"""Superblocks by the tools of each file system, cut to the fields that nqr reads."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nqrust.host.facts.superblock import HEAD, Superblock, parse


def at(*pieces: tuple[int, bytes]) -> bytes:
    head = bytearray(HEAD)
    for offset, data in pieces:
        head[offset : offset + len(data)] = data
    return bytes(head)


def xfs(blocks: int, block: int = 4096, realtime: int = 0, log: int = 1) -> bytes:
    return at((0, b"XFSB" + struct.pack(">IQQ", block, blocks, realtime)), (48, struct.pack(">Q", log)))


def btrfs(size: int, devices: int = 1) -> bytes:
    return at((0x10040, b"_BHRfS_M"), (0x10070, struct.pack("<Q", size)), (0x10088, struct.pack("<Q", devices)))


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (xfs(76800), Superblock("xfs", 300 << 20)),
        (xfs(76800, realtime=5), Superblock("xfs", 300 << 20, alone=False)),
        (xfs(76800, log=0), Superblock("xfs", 300 << 20, alone=False)),
        (xfs((1 << 64) - 1), Superblock("xfs", 4096 * ((1 << 64) - 1))),
        (btrfs(114 << 20), Superblock("btrfs", 114 << 20)),
        (btrfs(114 << 20, devices=2), Superblock("btrfs", 114 << 20, alone=False)),
        (at((0x438, b"\x53\xef")), Superblock("ext")),
        (at((0, b"hsqs")), Superblock("squashfs")),
        (at((0x400, b"\xe2\xe1\xf5\xe0")), Superblock("erofs")),
        (at((54, b"FAT16   "), (510, b"\x55\xaa")), Superblock("vfat")),
        (at((82, b"FAT32   "), (510, b"\x55\xaa")), Superblock("vfat")),
        (at(), Superblock("")),
        (b"", Superblock("")),
        (b"XFS", Superblock("")),
    ],
)
def test_superblock_tells_the_file_system(head: bytes, found: Superblock) -> None:
    assert parse(head) == found


@given(st.binary(max_size=200))
def test_superblock_parser_accepts_any_bytes(head: bytes) -> None:
    assert parse(b"XFSB" + head).type == "xfs"
    assert parse(head).type in ("", "xfs", "squashfs")
