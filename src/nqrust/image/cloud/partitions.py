"""The partition table of a disk: GPT or MBR. Pure.

GPT: UEFI specification, chapter 5; MBR: the classic four entries. Partitions inside an extended one are not searched. The image
is untrusted: no partition reaches outside of the disk, and none has bytes of an earlier one.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass

HEAD = 1 << 20
"""Bytes at the start of a disk that contain its table: 4,096-byte sectors and 128 entries included."""
_SECTORS = (512, 4096)
_MOST = 256
_NOT_DATA = {0x00, 0x05, 0x0F, 0x85, 0x82}  # empty, extended, swap
_PROTECTIVE = 0xEE
ROOT_X86_64 = uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
"""Type of a root partition: systemd, "Discoverable Partitions Specification"."""


@dataclass(frozen=True)
class Partition:
    """`number` from 1; `start` and `size` in bytes; `is_root`: its type says that it is the root file system. `uuid`: as PARTUUID."""

    number: int
    start: int
    size: int
    is_root: bool = False
    uuid: str = ""


def parse(head: bytes, disk: int) -> list[Partition]:
    """Return the partitions of a disk of `disk` bytes. Empty: it has no table. `head`: its first HEAD bytes."""
    for sector in _SECTORS:
        found = _gpt(head, sector, disk)
        if found:
            return _apart(found)
    return _apart(_mbr(head, disk))


def _apart(found: list[Partition]) -> list[Partition]:
    kept: list[Partition] = []
    for one in found:
        if all(one.start + one.size <= other.start or other.start + other.size <= one.start for other in kept):
            kept.append(one)
    return kept


def _gpt(head: bytes, sector: int, disk: int) -> list[Partition]:
    if head[sector : sector + 8] != b"EFI PART" or len(head) < sector + 92:
        return []
    (where,) = struct.unpack_from("<Q", head, sector + 72)
    count, length = struct.unpack_from("<II", head, sector + 80)
    if length < 128 or length > 4096:
        return []
    found = []
    for number in range(min(count, _MOST)):
        at = where * sector + number * length
        if at + 128 > len(head):
            break
        kind, own = uuid.UUID(bytes_le=head[at : at + 16]), uuid.UUID(bytes_le=head[at + 16 : at + 32])
        first, last = struct.unpack_from("<QQ", head, at + 32)
        start, size = first * sector, (last - first + 1) * sector
        if kind.int and size > 0 and start >= sector and start + size <= disk:
            found.append(Partition(number + 1, start, size, kind == ROOT_X86_64, str(own)))
    return found


def _mbr(head: bytes, disk: int) -> list[Partition]:
    if head[510:512] != b"\x55\xaa":
        return []
    found, signature = [], struct.unpack_from("<I", head, 440)[0]
    for number in range(4):
        at = 446 + number * 16
        flag, kind = head[at], head[at + 4]
        first, count = struct.unpack_from("<II", head, at + 8)
        if flag not in (0x00, 0x80):  # the start of a file system, such as FAT, which ends in the same two bytes
            return []
        start, size = first * 512, count * 512
        if kind in _NOT_DATA or kind == _PROTECTIVE or not first or not count or start + size > disk:
            continue
        found.append(Partition(number + 1, start, size, uuid=f"{signature:08x}-{number + 1:02x}"))
    return found
