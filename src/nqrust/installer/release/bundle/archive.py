"""The form of a bundle: a tar archive of plain files (POSIX ustar), in one zstd frame.

The reader takes nothing that the list does not name, and takes it in the list's order. So links, devices, extended headers,
files outside of the folder, repeated and additional files end the reading before anything of them is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import zstandard

from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.release import signature
from nqrust.installer.release.bundle.contents import FIRST, LARGEST_LIST, LIST, Contents, hostile, parse

SIGNATURE = f"{LIST}{signature.ENDING}"
LARGEST_SIGNATURE = 1024  # bytes
LARGEST_DESCRIPTOR = 4 << 20  # bytes
MTIME = 1704067200  # of all files, so that the same files give the same bytes
_BLOCK = 512  # bytes, pax(1)
_CHUNK = 1 << 20
_WINDOW = 128 << 20  # bytes of memory that a frame may ask for (RFC 8878)
_LEVEL = 10


@dataclass(frozen=True)
class Head:
    """The beginning of a bundle. `raw` and `signature` are the bytes of the list and of its signature, if it has one."""

    raw: bytes
    signature: bytes | None
    contents: Contents
    descriptor: bytes

    @property
    def digest(self) -> str:
        """Return the sha256 of the list, which stands for the content of all files."""
        return hashlib.sha256(self.raw).hexdigest()


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o644, MTIME
    return entry.tobuf(tarfile.USTAR_FORMAT)


class Writer:
    """Writes a bundle. Equal files give an equal archive: modes, owners and times are fixed."""

    def __init__(self, output: IO[bytes]) -> None:
        # One thread: several cut the frame where their number says.
        self._stream = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).stream_writer(output, closefd=False)

    def add(self, name: str, source: IO[bytes], size: int) -> None:
        self._stream.write(_header(name, size))
        left = size
        while left:
            chunk = source.read(min(_CHUNK, left))
            if not chunk:
                raise OSError(f"{name} became shorter while it was read")
            left -= len(chunk)
            self._stream.write(chunk)
        self._stream.write(bytes(-size % _BLOCK))

    def close(self) -> None:
        self._stream.write(bytes(2 * _BLOCK))
        self._stream.flush(zstandard.FLUSH_FRAME)


class _Reader:
    """The files of one archive, one after the other."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def header(self) -> tuple[str, int] | None:
        """Return name and size of the next file, None at the end. Raises ReleaseError."""
        block = self._exactly(_BLOCK)
        if not any(block):
            self._end()
            return None
        try:
            entry = tarfile.TarInfo.frombuf(block, "ascii", "strict")
            # One form for each file, so that no changed bit goes unnoticed.
            ours = block == _header(entry.name, entry.size)
        except (tarfile.HeaderError, ValueError):
            raise unreadable("a header in it is damaged") from None
        if entry.type != tarfile.REGTYPE or entry.linkname or entry.size < 0:
            raise hostile(f"it holds {entry.name[:120]!r}, which is no plain file")
        if not ours:
            raise unreadable("a header in it is damaged")
        return entry.name, entry.size

    def content(self, size: int) -> Iterator[bytes]:
        left = size
        while left:
            chunk = self._exactly(min(_CHUNK, left))
            left -= len(chunk)
            yield chunk
        if any(self._exactly(-size % _BLOCK)):
            raise unreadable("the space between two files is not empty")

    def _end(self) -> None:
        if any(self._exactly(_BLOCK)) or self._read(1):
            raise unreadable("there is something behind its end")

    def _exactly(self, size: int) -> bytes:
        found = self._read(size)
        if len(found) != size:
            raise unreadable("it ends early")
        return found

    def _read(self, size: int) -> bytes:
        parts = io.BytesIO()
        while size and (part := self._stream.read(size)):
            size -= parts.write(part)
        return parts.getvalue()


def _small(reader: _Reader, size: int, largest: int) -> bytes:
    if size > largest:
        raise hostile("its list, signature or descriptor is too large")
    return b"".join(reader.content(size))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[_Reader]:
    """Raises ReleaseError NQR-REL-060."""
    try:
        with open(path, "rb") as file, zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(file) as stream:
            yield _Reader(stream)
    except zstandard.ZstdError as error:
        raise unreadable(f"it is damaged ({error})") from error


def _head(reader: _Reader) -> Head:
    found = reader.header()
    if found is None or found[0] != LIST:
        raise hostile(f"{LIST} is not its first file")
    raw = _small(reader, found[1], LARGEST_LIST)
    found, signed = reader.header(), None
    if found is not None and found[0] == SIGNATURE:
        signed = _small(reader, found[1], LARGEST_SIGNATURE)
        found = reader.header()
    contents = parse(raw)
    if found is None or found[0] != FIRST:
        raise hostile(f"{FIRST} is not where its list has it")
    if found[1] > contents.size:
        raise _too_large(contents)
    descriptor = _small(reader, found[1], LARGEST_DESCRIPTOR)
    if hashlib.sha256(descriptor).hexdigest() != contents.digests[FIRST]:
        raise changed(FIRST)
    return Head(raw, signed, contents, descriptor)


def read_head(path: str) -> Head:
    """Return the beginning of the bundle in a file. Reads no further. Raises ReleaseError, OSError."""
    with _opened(path) as reader:
        return _head(reader)


def files(path: str, digest: str = "") -> Iterator[tuple[str, Iterator[bytes]]]:
    """Return name and content of each file that the list names, in its order. The content must be read before the next file.

    `digest`: sha256 that the list must have, unless empty: the file may have been replaced since its head was read. A content
    ends with an error if the list has another digest for it. Raises ReleaseError, OSError.
    """
    with _opened(path) as reader:
        head = _head(reader)
        if digest and head.digest != digest:
            raise changed(LIST)
        yield FIRST, iter((head.descriptor,))
        left = head.contents.size - len(head.descriptor)
        for name in list(head.contents.digests)[1:]:
            found = reader.header()
            if found is None:
                raise hostile(f"it lacks {name}")
            if found[0] != name:
                raise hostile(f"it holds {found[0][:120]!r} in place of {name}")
            left -= found[1]
            if left < 0:
                raise _too_large(head.contents)
            yield name, _checked(reader, name, found[1], head.contents.digests[name])
        extra = reader.header()
        if extra is not None:
            raise hostile(f"it holds {extra[0][:120]!r}, which its list does not name")


def _checked(reader: _Reader, name: str, size: int, digest: str) -> Iterator[bytes]:
    found = hashlib.sha256()
    for chunk in reader.content(size):
        found.update(chunk)
        yield chunk
    if found.hexdigest() != digest:
        raise changed(name)


def _too_large(contents: Contents) -> ReleaseError:
    return hostile(f"it holds more than the {contents.size} bytes that its list names")


def changed(name: str) -> ReleaseError:
    return ReleaseError(
        "NQR-REL-062",
        f"{name} in the bundle is not the file that was put into it (its sha256 differs).",
        "Copy the bundle again. If this repeats, get it from its publisher again.",
    )


def unreadable(why: str) -> ReleaseError:
    return ReleaseError(
        "NQR-REL-060",
        f"The bundle cannot be read: {why}.",
        "Copy the bundle again, and compare it with nqr bundle verify on the machine that has the original.",
    )
