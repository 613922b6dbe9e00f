"""Unpacks the layers of an image (tar; plain, gzip or zstd) into a tree, and the content of their files into a folder.

A layer can name any path and claim any size. Contents are stored under numbers, and every amount is bounded. Device nodes,
pipes and sockets are left out: a guest has its own /dev.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from nqrust.image.errors import ImageError
from nqrust.image.oci import layout, packing
from nqrust.image.oci.tree import Is, Node, Tree, hostile, shown

_CHUNK = 2**20
_LARGEST_HEADER = 2**20
_NAMES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_LEFT_OUT = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
_MOST_ID = 2**32 - 2


@dataclass(frozen=True)
class Bounds:
    """`unpacked`: bytes of all layers together. `entries`: in all layers together. `room`: bytes that they may take of the disk."""

    unpacked: int = 32 * 2**30
    entries: int = 500_000
    room: int = 2**63


@dataclass
class Unpacked:
    """`left_out`: number of device nodes and pipes."""

    tree: Tree
    left_out: int = 0


def unpack(folder: str, contents: layout.Contents, place: str, bounds: Bounds, tell: Callable[[float], None]) -> Unpacked:
    """Unpack all layers of the layout `folder`. `place`: empty folder for contents. `tell`: the fraction that is done.

    Raises ImageError NQR-IMG-032, NQR-IMG-034, NQR-IMG-035 (too large), NQR-IMG-090 (no room), OSError.
    """
    result, budget = Unpacked(Tree()), _Budget(bounds)
    diff_ids = contents.config.rootfs.diff_ids
    total, done = sum(layer.size for layer in contents.manifest.layers) or 1, 0
    for number, layer in enumerate(contents.manifest.layers, start=1):
        with layout.open_blob(folder, layer) as blob:
            plain = _Measured(packing.opened(blob), budget)
            try:
                _layer(result, plain, number, place, budget)
                plain.drain()
            except packing.NeedsMemory as error:
                raise _too_large(f"a layer needs more than {packing.WINDOW // 2**20} MiB of memory") from error
            except (
                tarfile.TarError,
                EOFError,
                *packing.ERRORS,
                ValueError,
                ArithmeticError,
                RecursionError,
            ) as error:
                raise layout.damaged(f"layer {layer.digest} cannot be unpacked ({type(error).__name__})") from error
        if diff_ids and plain.digest != diff_ids[number - 1]:
            raise layout.damaged(f"layer {layer.digest} does not match the digest in the configuration")
        done += layer.size
        tell(done / total)
    return result


class _Info(tarfile.TarInfo):
    """A header whose long names are bounded before tarfile reads them into memory."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _NAMES and self.size > _LARGEST_HEADER:
            raise hostile("the name of a file is too long")
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]


class _Budget:
    def __init__(self, bounds: Bounds) -> None:
        self.bounds, self.bytes, self.entries, self.contents, self.written = bounds, 0, 0, 0, 0

    def read(self, amount: int) -> None:
        self.bytes += amount
        if self.bytes > self.bounds.unpacked:
            raise _too_large(f"its layers have more than {self.bounds.unpacked // 2**20} MiB")

    def write(self, amount: int) -> None:
        self.written += amount
        if self.written > self.bounds.room:
            raise ImageError(
                "NQR-IMG-090",
                "The unpacked container image would leave less than 1 GiB on the image folder's disk.",
                "Free space there, or delete unused images, then pull again.",
            )

    def entry(self) -> None:
        self.entries += 1
        if self.entries > self.bounds.entries:
            raise _too_large(f"its layers have more than {self.bounds.entries} files")


class _Measured(io.RawIOBase):
    """Counts and digests what is read."""

    def __init__(self, inner: BinaryIO, budget: _Budget) -> None:
        self._inner, self._budget, self._sum = inner, budget, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        found = self._inner.read(_CHUNK if size < 0 else min(size, _CHUNK))
        self._budget.read(len(found))
        self._sum.update(found)
        return found

    def drain(self) -> None:
        while self.read(_CHUNK):
            pass

    @property
    def digest(self) -> str:
        return f"sha256:{self._sum.hexdigest()}"


def _layer(result: Unpacked, plain: _Measured, number: int, place: str, budget: _Budget) -> None:
    with tarfile.open(fileobj=plain, mode="r|", tarinfo=_Info, errors="surrogateescape", encoding="utf-8") as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # tarfile remembers all of them otherwise
            budget.entry()
            if result.tree.whiteout(member.name, number):
                continue
            if member.type in _LEFT_OUT:
                result.left_out += 1
            elif member.islnk():
                result.tree.link(member.name, member.linkname, number)
            elif (node := _node(member, number)) is not None:
                if node.kind is Is.file:
                    if member.issparse():
                        budget.read(member.size)  # its holes are no bytes of the layer
                    node.content, budget.contents = budget.contents, budget.contents + 1
                    _store(tar, member, f"{place}/{node.content}", budget)
                result.tree.put(member.name, node)


def _node(member: tarfile.TarInfo, layer: int) -> Node | None:
    kind = Is.directory if member.isdir() else Is.symlink if member.issym() else Is.file if member.isreg() else None
    if kind is None:
        raise hostile(f"{shown(member.name)} has an unknown type")
    if kind is Is.symlink and (not member.linkname or len(member.linkname) > 4095 or not _printable(member.linkname)):
        raise hostile(f"the target of the link {shown(member.name)} is not usable")
    if not (0 <= member.uid <= _MOST_ID and 0 <= member.gid <= _MOST_ID):
        raise hostile(f"{shown(member.name)} belongs to a user that cannot be")
    mtime = min(max(int(member.mtime), 0), 2**32 - 1)
    target = member.linkname if kind is Is.symlink else ""
    size = member.size if kind is Is.file else 0
    return Node(kind, layer, stat.S_IMODE(member.mode), member.uid, member.gid, mtime, size, target=target)


def _printable(text: str) -> bool:
    return all(ord(sign) >= 0x20 and ord(sign) != 0x7F for sign in text)


def _store(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, budget: _Budget) -> None:
    source = tar.extractfile(member)
    assert source is not None
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        left = member.size
        while left:
            chunk = source.read(min(left, _CHUNK))
            if not chunk:
                raise EOFError
            if chunk.count(0) == len(chunk):
                file.seek(len(chunk), os.SEEK_CUR)  # a hole: zeros take no room
            else:
                budget.write(len(chunk))
                file.write(chunk)
            left -= len(chunk)
        file.truncate(member.size)


def _too_large(why: str) -> ImageError:
    return ImageError("NQR-IMG-035", f"The container image is too large: {why}.", "Use a smaller image.")
