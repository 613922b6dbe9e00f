"""Names of the files in an initrd, to find out which drivers it has. Pure.

An initrd is a row of cpio archives (Documentation/driver-api/early-userspace/buffer-format.rst), each plain or compressed. It is
untrusted: what it unpacks to is bounded, and is never written anywhere.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator

from nqrust.image import lz4

_LIMIT = 2 << 30
_PIECE = 1 << 20
_NEWC = (b"070701", b"070702")
_HEADER, _LONGEST_NAME = 110, 4096
_MOST, _TEXT = 200_000, 32 << 20  # files, and characters of their names, of all archives together
_MEMORY = 256 << 20  # of the decompressor of xz
_ZEROS, _NUMBER = re.compile(rb"\0*"), re.compile(rb"[0-9A-Fa-f]{8}")


def names(data: bytes) -> set[str]:
    """Return the paths in an initrd. Raises ValueError if it is none, or is damaged."""
    found = _Names()
    at = 0
    while (at := _end_of_zeros(data, at)) < len(data):
        if data[at : at + 6] in _NEWC:
            stream = _Stream(iter(()), data, at)
            _archive(stream, found)
            at += stream.read_bytes
            continue
        try:
            _archives(_Stream(_unpacked(data[at:])), found)
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise ValueError(f"it is damaged ({error})") from error
        break
    if not found.all:
        raise ValueError("it has no files")
    return found.all


class _Names:
    """The names of all archives. A few MiB of initrd can hold more of them than a host has memory."""

    def __init__(self) -> None:
        self.all: set[str] = set()
        self._files, self._text = _MOST, _TEXT

    def add(self, name: str) -> None:
        self._files, self._text = self._files - 1, self._text - len(name)
        if self._files < 0 or self._text < 0:
            raise ValueError("it has too many files")
        self.all.add(name)


def _end_of_zeros(data: bytes, at: int) -> int:
    match = _ZEROS.match(data, at)
    return match.end() if match else at


def _archives(stream: _Stream, found: _Names) -> None:
    while stream.has(6):
        _archive(stream, found)
        stream.skip_zeros()


def _archive(stream: _Stream, found: _Names) -> None:
    """Read one archive up to its trailer. cpio(5), "New ASCII Format"."""
    while True:
        header = stream.take(_HEADER)
        if header[:6] not in _NEWC:
            raise ValueError("it is no cpio archive")
        size, length = _number(header[54:62]), _number(header[94:102])
        if length > _LONGEST_NAME:
            raise ValueError("a name in it is too long")
        name = stream.take(length).rstrip(b"\0").decode("utf-8", "replace")
        stream.skip(-(_HEADER + length) % 4)
        if name == "TRAILER!!!":
            return
        found.add(name)
        stream.skip(size + -size % 4)


def _number(digits: bytes) -> int:
    """int() would take signs, too: an archive could lead back to its own start."""
    if not _NUMBER.fullmatch(digits):
        raise ValueError("a header in it has no number")
    return int(digits, 16)


class _Stream:
    """Reads pieces one after the other. `held`, from `at` on: the first one. Copies no more than it returns, or one piece."""

    def __init__(self, pieces: Iterator[bytes], held: bytes = b"", at: int = 0) -> None:
        self._pieces, self._held, self._at, self.read_bytes = pieces, held, at, 0

    def has(self, count: int) -> bool:
        while len(self._held) - self._at < count:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._held, self._at = self._held[self._at :] + piece, 0
        return True

    def take(self, count: int) -> bytes:
        if not self.has(count):
            raise ValueError("it is incomplete")
        taken = self._held[self._at : self._at + count]
        self._advance(count)
        return taken

    def skip(self, count: int) -> None:
        while count > 0:
            if not self.has(1):
                raise ValueError("it is incomplete")
            step = min(count, len(self._held) - self._at)
            self._advance(step)
            count -= step

    def skip_zeros(self) -> None:
        while self.has(1) and not self._held[self._at]:
            self._advance(_end_of_zeros(self._held, self._at) - self._at)

    def _advance(self, count: int) -> None:
        self._at += count
        self.read_bytes += count
        if self.read_bytes > _LIMIT:
            raise ValueError("it unpacks to too much")


def _unpacked(data: bytes) -> Iterator[bytes]:
    if data.startswith(b"\x1f\x8b"):
        return _inflated(data)
    if data.startswith(b"\x28\xb5\x2f\xfd"):
        return _unzstd(data)
    if data.startswith((b"\xfd7zXZ", b"\x5d\x00\x00")):
        return _fed(data, lzma.LZMADecompressor(memlimit=_MEMORY))
    if data.startswith(b"BZh"):
        return _fed(data, bz2.BZ2Decompressor())
    if data.startswith(lz4.MAGIC):
        return lz4.decompress_legacy(data, _LIMIT)
    raise ValueError(f"its compression ({data[:4].hex()}) is not known")


def _inflated(data: bytes) -> Iterator[bytes]:
    stream = zlib.decompressobj(wbits=31)
    for at in range(0, len(data), _PIECE):
        rest = data[at : at + _PIECE]
        while rest and not stream.eof:
            yield stream.decompress(rest, _PIECE)
            rest = stream.unconsumed_tail


def _unzstd(data: bytes) -> Iterator[bytes]:
    import zstandard

    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as stream:
            while piece := stream.read(_PIECE):
                yield piece
    except zstandard.ZstdError as error:
        raise ValueError(f"it is damaged ({error})") from error


def _fed(data: bytes, stream: lzma.LZMADecompressor | bz2.BZ2Decompressor) -> Iterator[bytes]:
    decompress: Callable[[bytes, int], bytes] = stream.decompress
    for at in range(0, len(data), _PIECE):
        rest = data[at : at + _PIECE]
        while not stream.eof:
            yield decompress(rest, _PIECE)
            rest = b""
            if stream.needs_input:
                break
