"""A file system's own description in its first blocks. Pure: it works on bytes only.

XFS: xfs(5) and xfs_format.h; Btrfs: btrfs(5), "superblock"; ext: ext4(5); squashfs and erofs: their kernel documentation.
The image is untrusted: every value is checked against the size of the file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEAD = 0x11000
"""Bytes at the start of a disk that contain every supported superblock."""

_BTRFS = 0x10000
_EXT = 0x400


@dataclass(frozen=True)
class Superblock:
    """`type` as mount(8) names it (`ext` for ext2, ext3 and ext4 alike), empty if unknown.

    `size`: bytes that the file system claims, None if not read. `alone`: it needs no other device.
    """

    type: str
    size: int | None = None
    alone: bool = True


def parse(head: bytes) -> Superblock:
    """`head`: the first HEAD bytes of a disk, or all of it when it is smaller."""
    head = head.ljust(HEAD, b"\0")
    if head.startswith(b"XFSB"):
        block, blocks = struct.unpack_from(">IQ", head, 4)
        realtime, log = struct.unpack_from(">Q", head, 16)[0], struct.unpack_from(">Q", head, 48)[0]
        return Superblock("xfs", block * blocks, alone=realtime == 0 and log != 0)
    if head[_BTRFS + 0x40 : _BTRFS + 0x48] == b"_BHRfS_M":
        size, devices = struct.unpack_from("<Q", head, _BTRFS + 0x70)[0], struct.unpack_from("<Q", head, _BTRFS + 0x88)[0]
        return Superblock("btrfs", size, alone=devices == 1)
    if head[_EXT + 0x38 : _EXT + 0x3A] == b"\x53\xef":
        return Superblock("ext")
    if head[:4] in (b"hsqs", b"sqsh"):
        return Superblock("squashfs")
    if head[_EXT : _EXT + 4] == b"\xe2\xe1\xf5\xe0":
        return Superblock("erofs")
    if head[510:512] == b"\x55\xaa" and (head[54:57] == b"FAT" or head[82:87] == b"FAT32"):
        return Superblock("vfat")
    return Superblock("")
