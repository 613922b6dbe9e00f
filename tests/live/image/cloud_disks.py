"""Disks like those that distributions publish for clouds: a GPT with a boot partition, an EFI partition and the root."""

from __future__ import annotations

import shutil
import struct
import subprocess
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SECTOR, MIB = 512, 1 << 20
LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
ROOT = uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
BIOS_BOOT = uuid.UUID("21686148-6449-6e6f-744e-656564454649")
EFI = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
OTHER_ID = uuid.UUID(int=1)
ROOT_ID = uuid.UUID("11111111-2222-4333-8444-555555555555")
FSTAB = f"""\
# /etc/fstab
PARTUUID={ROOT_ID} / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1
PARTUUID=99999999-2222-4333-8444-555555555555 /boot/efi vfat defaults 0 0
"""


@dataclass(frozen=True)
class Part:
    """`number`: its place in the table, which need not be that on the disk."""

    number: int
    kind: uuid.UUID
    content: Path | bytes
    own: uuid.UUID = OTHER_ID


def gpt(target: Path, parts: Sequence[Part], head: bytes = b"") -> Path:
    """Write a raw disk with these partitions, each aligned to 1 MiB. `head`: the boot code of its first sector."""
    entries, at = bytearray(128 * 128), MIB
    with target.open("wb") as disk:
        for part in parts:
            size = len(part.content) if isinstance(part.content, bytes) else part.content.stat().st_size
            size = -(-size // MIB) * MIB
            first = at // SECTOR
            entry = part.kind.bytes_le + part.own.bytes_le + struct.pack("<QQQ", first, first + size // SECTOR - 1, 0)
            entries[(part.number - 1) * 128 : (part.number - 1) * 128 + len(entry)] = entry
            disk.seek(at)
            if isinstance(part.content, bytes):
                disk.write(part.content)
            else:
                disk.flush()
                _copy(part.content, disk.name, at)
            at += size
        last = at // SECTOR + 33
        disk.truncate((last + 1) * SECTOR)
        disk.seek(0)
        disk.write(head[:446].ljust(446, b"\0") + struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff" * 3, 1, last))
        disk.seek(510)
        disk.write(b"\x55\xaa")
        crc = zlib.crc32(bytes(entries))
        for here, other, table in ((1, last, 2), (last, 1, last - 32)):
            header = struct.pack(
                "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, here, other, 34, last - 34, b"\7" * 16, table, 128, 128, crc
            )
            header = header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:]
            disk.seek(here * SECTOR)
            disk.write(header)
            disk.seek(table * SECTOR)
            disk.write(bytes(entries))
    return target


def _copy(source: Path, target: str, at: int) -> None:
    with source.open("rb") as given, open(target, "r+b") as disk:
        while piece := given.read(MIB):
            if piece.strip(b"\0"):
                disk.seek(at)
                disk.write(piece)
            at += len(piece)


def mbr(target: Path, root: Path) -> Path:
    """Write a raw disk with one primary partition."""
    size = root.stat().st_size
    with target.open("wb") as disk:
        disk.truncate(MIB + size)
        disk.seek(440)
        disk.write(struct.pack("<IH", 0x1234ABCD, 0))
        disk.write(struct.pack("<B3sB3sII", 0x80, b"\0\2\0", 0x83, b"\xff" * 3, MIB // SECTOR, size // SECTOR))
        disk.seek(510)
        disk.write(b"\x55\xaa")
    _copy(root, str(target), MIB)
    return target


def ext4(folder: Path, target: Path, mib: int) -> Path:
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(folder), str(target), f"{mib}M"], check=True)
    return target


def converted(source: Path, target: Path, format: str, *options: str) -> Path:
    subprocess.run(["qemu-img", "convert", "-O", format, *options, str(source), str(target)], check=True)
    return target


def cloud_disk(root: Path, target: Path, *, root_kind: uuid.UUID = ROOT) -> Path:
    """Write a disk as Debian's: boot partition 14, EFI partition 15, root partition 1."""
    fat = b"\xeb\x58\x90mkfs.fat".ljust(510, b"\0") + b"\x55\xaa"
    return gpt(
        target,
        [
            Part(14, BIOS_BOOT, b"GRUB core image".ljust(MIB, b"\0")),
            Part(15, EFI, fat.ljust(4 * MIB, b"\0")),
            Part(1, root_kind, root, ROOT_ID),
        ],
        head=b"\xeb\x63\x90" + b"GRUB boot code",
    )


def has(*programs: str) -> list[str]:
    """Return the programs that are missing."""
    return [program for program in programs if shutil.which(program) is None]
