"""Reads a packed layer piece by piece: gzip (RFC 1952), zstd (RFC 8878) or plain. The first bytes tell, as the media type can be wrong."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import BinaryIO, cast

import zstandard

WINDOW = 2**27
"""Bytes that zstd may look back at, and so keep in memory: as many as zstd(1) takes without an option."""
ERRORS = (zlib.error, gzip.BadGzipFile, zstandard.ZstdError)
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


class NeedsMemory(Exception):
    """A window larger than WINDOW."""


def opened(blob: BinaryIO) -> BinaryIO:
    """Return what reads the unpacked bytes of `blob`. Its `read` raises one of ERRORS, EOFError or NeedsMemory."""
    head = blob.read(4)
    blob.seek(0)
    if head.startswith(_GZIP):
        return cast(BinaryIO, gzip.GzipFile(fileobj=blob))
    if head == _ZSTD or _skippable(head):
        return cast(BinaryIO, _Zstd(blob))
    return blob


def _skippable(head: bytes) -> bool:
    """Return whether it is a frame that readers pass over. Parallel writers of zstd begin with one."""
    return head[1:] == b"\x2a\x4d\x18" and head[0] >> 4 == 5


class _Zstd(io.RawIOBase):
    """All frames of a file: a layer can have many, so that single files of it can be fetched (zstd:chunked)."""

    def __init__(self, blob: BinaryIO) -> None:
        self._stream = zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(blob, read_across_frames=True)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except zstandard.ZstdError as error:
            if "too much memory" in str(error):  # the library has one kind of error
                raise NeedsMemory from error
            raise
