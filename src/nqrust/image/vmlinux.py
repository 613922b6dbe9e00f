"""Takes the uncompressed ELF kernel out of a bzImage, for VMMs that boot nothing else.

A bzImage is a real-mode setup part followed by a protected-mode part whose compressed payload is found through the
header fields `payload_offset` and `payload_length` (Documentation/arch/x86/boot.rst, boot protocol 2.08 and later).
"""

from __future__ import annotations

import lzma
import struct
import zlib

from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.image import lz4
from nqrust.image.errors import ImageError

_LIMIT = 256 * 1024 * 1024
_PROGRAMS = {b"\x28\xb5\x2f\xfd": "zstd", lz4.MAGIC: "lz4"}


def payload(image: bytes) -> bytes:
    """The compressed kernel inside a bzImage. Raises ValueError when `image` is not one that tells where it is."""
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
    return image[start:start + length]


def write_vmlinux(host: Host, bzimage: str, target: str) -> None:
    """Write the ELF kernel of the file `bzimage` to `target` (root, 0644). A file that is ELF already is copied.

    Raises ImageError NQR-IMG-010 when it cannot be taken out."""
    image = host.read_bytes(bzimage)
    if image.startswith(b"\x7fELF"):
        host.copy_file(bzimage, target, mode=0o644)
        return
    try:
        packed = payload(image)
        kernel = _unpack(host, packed, target)
        # The last word of a payload is the unpacked size (gzip's own trailer, appended for the others): a stream that
        # was cut off does not get by.
        if kernel is not None and kernel is not packed and len(kernel) != int.from_bytes(packed[-4:], "little"):
            raise ValueError("it is cut off or damaged")
    except (ValueError, OSError, EOFError, lzma.LZMAError, zlib.error, HostError) as error:
        raise _unusable(bzimage, str(error)) from error
    if kernel is None:  # the program wrote the target itself
        if host.read_bytes(target, 4) != b"\x7fELF":
            host.remove(target)
            raise _unusable(bzimage, "what it unpacks to is not an ELF file")
        return
    if not kernel.startswith(b"\x7fELF"):
        raise _unusable(bzimage, "what it unpacks to is not an ELF file")
    host.write_file(target, kernel)


def _unpack(host: Host, packed: bytes, target: str) -> bytes | None:
    if packed.startswith(b"\x7fELF"):
        return packed
    if packed.startswith(b"\x1f\x8b"):
        # The kernel appends its size to the stream, which the gzip module would take for a broken second member.
        return zlib.decompressobj(wbits=31).decompress(packed, _LIMIT)
    if packed.startswith(b"\xfd7zXZ"):
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(packed, _LIMIT)
    if packed.startswith(b"\x5d\x00\x00"):
        return lzma.LZMADecompressor(format=lzma.FORMAT_ALONE).decompress(packed, _LIMIT)
    program = _PROGRAMS.get(packed[:4])
    if program is None:
        raise ValueError(f"its compression ({packed[:4].hex()}) is not known")
    if host.which(program) is None:
        if program == "lz4":
            return lz4.decompress_legacy(packed, _LIMIT)
        raise ValueError(f"{program} is not installed on this host")
    compressed = f"{target}.{program}"
    # Both programs stop at the end of the frame; the four bytes of appended size would make them complain.
    host.write_file(compressed, packed[:-4])
    try:
        host.run(command(program, "-d", "-f", "-q", compressed, target, timeout=120) if program == "lz4"
                 else command(program, "-d", "-f", "-q", compressed, "-o", target, timeout=120))
        host.set_mode(target, mode=0o644, owner="root", group="root")
    finally:
        host.remove(compressed)
    return None


def _unusable(path: str, why: str) -> ImageError:
    return ImageError("NQR-IMG-010", f"The kernel in {path.rsplit('/', 1)[-1]} could not be unpacked: {why}.",
                      "Install the programs lz4 and zstd, then run again.")
