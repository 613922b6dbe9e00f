"""Writes the "newc" cpio archive that the kernel unpacks as initramfs (Documentation/driver-api/early-userspace).

Deterministic: entries in the order given, times zero, owner root.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One member. `path` without a leading slash; `mode` with its type bits; `rdev` (major, minor) for devices."""

    path: str
    mode: int
    data: bytes = b""
    rdev: tuple[int, int] = (0, 0)


def directory(path: str, mode: int = 0o755) -> Entry:
    return Entry(path, stat.S_IFDIR | mode)


def file(path: str, data: bytes, mode: int = 0o644) -> Entry:
    return Entry(path, stat.S_IFREG | mode, data)


def symlink(path: str, target: str) -> Entry:
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int, mode: int = 0o600) -> Entry:
    return Entry(path, stat.S_IFCHR | mode, rdev=(major, minor))


def archive(entries: Iterable[Entry]) -> bytes:
    """Return the whole archive, with its trailer and the padding to 512 bytes."""
    out = bytearray()
    for inode, entry in enumerate(entries, start=1):
        _member(out, entry, inode)
    _member(out, Entry("TRAILER!!!", 0), 0)
    _pad(out, 512)
    return bytes(out)


def content(archive: bytes, path: str) -> bytes | None:
    """Return the content of the file `path` in the first archive of an initramfs; None if there is no such file."""
    at, wanted = 0, path.encode()
    while archive[at : at + 6] == b"070701":
        size, length = int(archive[at + 54 : at + 62], 16), int(archive[at + 94 : at + 102], 16)
        name, start = archive[at + 110 : at + 110 + length - 1], -(-(at + 110 + length) // 4) * 4
        if name == wanted:
            return archive[start : start + size]
        at = -(-(start + size) // 4) * 4
    return None


def _member(out: bytearray, entry: Entry, inode: int) -> None:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.rdev, len(name), 0)
    out += b"070701" + b"".join(b"%08x" % field for field in fields) + name
    _pad(out, 4)
    out += entry.data
    _pad(out, 4)


def _pad(out: bytearray, to: int) -> None:
    out += b"\0" * (-len(out) % to)
