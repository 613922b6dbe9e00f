"""Extracts the uncompressed ELF kernel from a bzImage, for VMMs that boot nothing else.

A bzImage is a real-mode setup part followed by a protected-mode part. The header fields `payload_offset` and `payload_length`
locate its compressed payload (Documentation/arch/x86/boot.rst, boot protocol 2.08 and later).
"""

from __future__ import annotations

import lzma
import os
import shlex
import struct
import zlib
from collections.abc import Iterator

from nqrust.contract.names import IMAGE_USERS
from nqrust.host import confinement, memory
from nqrust.host.ending import ENDS_WHOLE
from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.image import lz4
from nqrust.image.errors import ImageError

_LIMIT = 256 * 1024 * 1024
_MEMORY = 256 * 1024 * 1024  # of the decompressor of xz: a header may ask for 4 GiB
_PIECE = 1024 * 1024
_SPACE = 2 << 30  # bytes of address space of zstd
_ZSTD = b"\x28\xb5\x2f\xfd"


class _Damaged(Exception):
    """The unpacked payload is not the expected kernel."""


def payload(image: bytes) -> bytes:
    """Return the compressed kernel inside a bzImage. Raises ValueError if `image` is not a bzImage that locates it."""
    if len(image) < 0x260 or image[0x202:0x206] != b"HdrS":
        raise ValueError("not a bzImage")
    (protocol,) = struct.unpack_from("<H", image, 0x206)
    if protocol < 0x0208:
        raise ValueError("boot protocol older than 2.08")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    if not length or start + length > len(image):
        raise ValueError("the payload is outside of the file")
    return image[start : start + length]


def write_vmlinux(host: Host, bzimage: str, target: str) -> None:
    """Write the ELF kernel of the file `bzimage` to `target` (root, 0644). An ELF file is copied.

    Raises ImageError NQR-IMG-010 if it cannot be extracted.
    """
    image = host.read_bytes(bzimage)
    if image.startswith(b"\x7fELF"):
        host.copy_file(bzimage, target, mode=0o644)
        return
    try:
        packed = payload(image)
        del image  # a quarter of a kernel, which is held only once
        if packed.startswith(b"\x7fELF"):
            host.write_file(target, packed)
        elif (pieces := _unpacked(packed)) is not None:
            # The last word of a payload is the unpacked size (gzip's own trailer, appended for the others). It detects a
            # truncated stream.
            host.write_file(target, _checked(pieces, int.from_bytes(packed[-4:], "little")))
        else:
            _by_zstd(host, packed, target)
    except (_Damaged, ValueError, OSError, EOFError, lzma.LZMAError, zlib.error, HostError) as error:
        raise _unusable(bzimage, str(error)) from error


def _checked(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield the same pieces. Raises _Damaged if they are not an ELF file or not `size` bytes."""
    came = 0
    for piece in pieces:
        if came == 0 and not piece.startswith(b"\x7fELF"):
            raise _Damaged("what it unpacks to is not an ELF file")
        came += len(piece)
        if came > _LIMIT:
            raise _Damaged("what it unpacks to is larger than any kernel")
        yield piece
    if came != size:
        raise _Damaged("it is incomplete or damaged")


def _unpacked(packed: bytes) -> Iterator[bytes] | None:
    """Yield the kernel in pieces: whole, it needs as much memory as the rest of the installer. None: see _by_zstd."""
    if packed.startswith(b"\x1f\x8b"):
        return _inflated(packed)
    if packed.startswith(b"\xfd7zXZ"):
        return _unxz(packed, lzma.FORMAT_XZ)
    if packed.startswith(b"\x5d\x00\x00"):
        return _unxz(packed, lzma.FORMAT_ALONE)
    if packed.startswith(lz4.MAGIC):
        return lz4.decompress_legacy(packed, _LIMIT)
    return None


def _inflated(packed: bytes) -> Iterator[bytes]:
    # The kernel appends its size to the stream, which the gzip module would take for a broken second member.
    stream = zlib.decompressobj(wbits=31)
    for at in range(0, len(packed), _PIECE):
        rest = packed[at : at + _PIECE]
        while rest and not stream.eof:
            if piece := stream.decompress(rest, _PIECE):
                yield piece
            rest = stream.unconsumed_tail
    if piece := stream.flush():
        yield piece


def _unxz(packed: bytes, form: int) -> Iterator[bytes]:
    stream = lzma.LZMADecompressor(format=form, memlimit=_MEMORY)
    for at in range(0, len(packed), _PIECE):
        rest = packed[at : at + _PIECE]
        while not stream.eof:
            if piece := stream.decompress(rest, _PIECE):
                yield piece
            rest = b""
            if stream.needs_input:
                break


def _by_zstd(host: Host, packed: bytes, target: str) -> None:
    if not packed.startswith(_ZSTD):
        raise ValueError(f"its compression ({packed[:4].hex()}) is not known")
    if host.which("zstd") is None:
        raise ValueError("zstd is not installed on this host")
    compressed = f"{target}.zstd"
    # The program stops at the end of the frame; the four bytes of appended size would make it complain.
    host.write_file(compressed, packed[:-4])
    try:
        # The kernel may be of an image that somebody else made: the program must not fill the disk, and opens no file itself.
        opened = f'{memory.DIE_FIRST}; exec "$@" <{shlex.quote(compressed)} >{shlex.quote(target)}'
        limited = ("prlimit", f"--fsize={_LIMIT}", f"--as={_SPACE}", "--core=0", *_without_privileges(target))
        whole = (*_ends_whole(host), *limited, "zstd", "-d", "-q", "-c")
        host.run(command(*confinement.confined("sh"), "-c", opened, "sh", *whole, timeout=120))
        host.set_mode(target, mode=0o644, owner="root", group="root")
    finally:
        host.remove(compressed)
    if host.read_bytes(target, 4) != b"\x7fELF":
        host.remove(target)
        raise ValueError("what it unpacks to is not an ELF file")


def _ends_whole(host: Host) -> tuple[str, ...]:
    """The command that ends all that the program started, when it ends: a process of it could change the kernel later. Not every
    container may make namespaces."""
    apart = ("unshare", *ENDS_WHOLE)
    try:
        host.run(command(*apart, "true"))
    except HostError:
        return ()
    return apart


def _without_privileges(target: str) -> tuple[str, ...]:
    """The command, without the program, that makes root a user without a name."""
    if os.geteuid() != 0:
        return ()
    user = IMAGE_USERS[zlib.crc32(target.encode()) % len(IMAGE_USERS)]
    identity = (f"--reuid={user}", f"--regid={user}", "--clear-groups")
    return ("setpriv", *identity, "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--")


def _unusable(path: str, why: str) -> ImageError:
    return ImageError(
        "NQR-IMG-010",
        f"The kernel in {path.rsplit('/', 1)[-1]} could not be unpacked: {why}.",
        "Install the program zstd, then run again.",
    )
