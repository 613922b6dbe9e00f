"""Decodes the LZ4 "legacy frame" of compressed Linux kernels (lz4_Frame_format.md), which `lz4.frame` does not support.

Its blocks are those of every other frame: `lz4.block` decodes them.
"""

from __future__ import annotations

from collections.abc import Iterator

MAGIC = b"\x02\x21\x4c\x18"
_BLOCK = 8 * 1024 * 1024  # every block of a legacy frame but the last decodes to this much


def decompress_legacy(data: bytes, limit: int) -> Iterator[bytes]:
    """Decode at most `limit` bytes, block by block. Data after the frame (kernels append the size) is ignored.

    Raises ValueError on data that is not such a frame or exceeds `limit`.
    """
    from lz4 import block  # the manager reads manifests with modules that import this one, and has no lz4

    if not data.startswith(MAGIC):
        raise ValueError("not an LZ4 legacy frame")
    at = len(MAGIC)
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        at += 4
        if size == 0 or size > len(data) - at:
            break  # the appended size word, or padding: not a block
        try:
            out: bytes = block.decompress(data[at : at + size], uncompressed_size=min(_BLOCK, limit))
        except block.LZ4BlockError as error:
            raise ValueError(f"LZ4 data is damaged, or larger than allowed ({error})") from error
        yield out
        at += size
        limit -= len(out)
        if len(out) < _BLOCK:
            break
