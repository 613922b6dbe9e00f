"""Decodes the LZ4 "legacy frame" in which Linux kernels are compressed (lz4_Frame_format.md, lz4_Block_format.md).

The `lz4` program is ten times as fast; this is for hosts that do not have it.
"""

from __future__ import annotations

from collections.abc import Iterator

MAGIC = b"\x02\x21\x4c\x18"
_BLOCK = 8 * 1024 * 1024  # every block of a legacy frame but the last decodes to this much


def decompress_legacy(data: bytes, limit: int) -> Iterator[bytes]:
    """Decode at most `limit` bytes, block by block. What follows the frame (kernels append the size) is left alone.

    Raises ValueError on data that is not such a frame or goes beyond `limit`."""
    if not data.startswith(MAGIC):
        raise ValueError("not an LZ4 legacy frame")
    at = len(MAGIC)
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        if size > len(data) - at - 4:
            break  # the appended size word, or padding: not a block
        at += 4
        if size == 0:
            break
        out = bytearray()
        _block(data, at, at + size, out, limit)
        yield bytes(out)
        at += size
        limit -= len(out)
        if len(out) < _BLOCK:
            break


def _block(data: bytes, at: int, end: int, out: bytearray, limit: int) -> None:
    try:
        while at < end:
            token = data[at]
            at += 1
            length = token >> 4
            if length == 15:
                while True:
                    more = data[at]
                    at += 1
                    length += more
                    if more != 255:
                        break
            if length:
                if at + length > end:
                    raise ValueError("LZ4 literals run past their block")
                out += data[at : at + length]
                at += length
            if at >= end:
                return
            offset = data[at] | data[at + 1] << 8
            at += 2
            length = (token & 15) + 4
            if length == 19:
                while True:
                    more = data[at]
                    at += 1
                    length += more
                    if more != 255:
                        break
            source = len(out) - offset
            if offset == 0 or source < 0:
                raise ValueError("LZ4 match points before its block")
            if offset >= length:
                out += out[source : source + length]
            else:
                piece = out[source:]
                out += (piece * (length // offset + 1))[:length]
            if len(out) > limit:
                raise ValueError("LZ4 data is larger than allowed")
    except IndexError:
        raise ValueError("LZ4 data ends too early") from None
