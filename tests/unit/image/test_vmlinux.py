"""nqr extracts an ELF kernel from every kind of bzImage that distributions ship, or its error names the cure."""

from __future__ import annotations

import gzip
import lzma
import struct
import zlib
from pathlib import Path

import pytest

from nqrust.host.local import LocalHost
from nqrust.image.errors import ImageError
from nqrust.image.vmlinux import payload, write_vmlinux

KERNEL = b"\x7fELF" + b"kernel text " * 300_000  # more than is unpacked at once


def bzimage(packed: bytes, *, protocol: int = 0x020F) -> bytes:
    """Return a file with the layout of the boot protocol: `packed` and its appended size as payload."""
    packed += struct.pack("<I", len(KERNEL)) if packed is not KERNEL else b""
    setup = bytearray(512 * 5)
    setup[0x1F1] = 4
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, protocol)
    struct.pack_into("<II", setup, 0x248, 64, len(packed))
    return bytes(setup) + b"\x90" * 64 + packed + b"\0" * 100


@pytest.mark.parametrize(
    "content", [b"", b"junk" * 400, bzimage(b"????"), bzimage(gzip.compress(b"no elf")), bzimage(gzip.compress(KERNEL)[:50])]
)
def test_file_that_is_no_kernel_is_refused_with_a_cure(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(content)
    with pytest.raises(ImageError) as caught:
        write_vmlinux(LocalHost(), str(tmp_path / "vmlinuz"), str(tmp_path / "vmlinux"))
    assert caught.value.code == "NQR-IMG-010" and caught.value.cure
    assert not (tmp_path / "vmlinux").exists()


def test_old_protocols_do_not_tell_where_the_payload_is() -> None:
    with pytest.raises(ValueError, match=r"2\.08"):
        payload(bzimage(b"x", protocol=0x0206))


def test_a_kernel_that_asks_for_gibibytes_of_memory_is_refused(tmp_path: Path) -> None:
    """The header of a block says how far its decompressor looks back; xz file format, 5.3.1."""
    packed = bytearray(lzma.compress(KERNEL, check=lzma.CHECK_CRC32))
    size = (packed[12] + 1) * 4
    packed[12 + 4] = 39  # 3 GiB
    packed[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(packed[12 : 12 + size - 4]))
    (tmp_path / "vmlinuz").write_bytes(bzimage(bytes(packed)))
    with pytest.raises(ImageError, match="Memory"):
        write_vmlinux(LocalHost(), str(tmp_path / "vmlinuz"), str(tmp_path / "vmlinux"))
