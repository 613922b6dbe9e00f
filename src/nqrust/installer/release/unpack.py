"""Unpacking of a release's archive. Nothing leaves the folder, whatever the archive says: it may come from a stranger.

Regular files, folders and symbolic links that stay inside are unpacked. pnpm lays out node_modules with such links.
Everything else refuses the whole archive: `..`, absolute names, hard links, devices, a name that occurs twice, a name below a
link. Owners are dropped, and of the modes only whether a file is a program remains.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any

from nqrust.installer.engine.errors import ReleaseError

MEMBERS = 200_000
BYTES = 2 << 30
NAMES = 64 << 20
DEPTH = 100
_LONGEST_HEADER = 64 * 1024
_PIECE = 1 << 20
_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


class _Refused(Exception):
    """The archive has a header that makes tarfile read into memory without end. Says why."""


class _Header(tarfile.TarInfo):
    """A header that makes tarfile read neither long names into memory without end, nor holes onto the disk."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.size < 0:
            raise _Refused("a file has a negative size")
        if self.type in _NAMES and self.size > _LONGEST_HEADER:
            raise _Refused("a name is too long")
        if self.type == tarfile.XGLTYPE and archive.pax_headers:
            raise _Refused("it has two global headers")  # tarfile keeps what they say
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise _Refused("a file has holes")
        return super()._proc_member(archive)  # type: ignore[misc]

    def _holes(self, *_: object) -> None:
        raise _Refused("a file has holes")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _holes


def unpack(archive: str, folder: str, *, largest: int = BYTES, members: int = MEMBERS) -> None:
    """Unpack a tar archive, compressed or not, into the new folder `folder`. `largest`: bytes of all files together.

    Raises ReleaseError NQR-REL-070 for an archive that is refused or damaged, 023 for a full disk. Files unpacked before stay in
    `folder`.
    """
    try:
        os.mkdir(folder, 0o755)
        with tarfile.open(archive, "r|*", tarinfo=_Header) as tar:
            for member, parts in _checked(archive, tar, largest, members):
                _write(tar, member, os.path.join(folder, *parts))
    except _Refused as error:
        raise refused(archive, str(error)) from error
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise refused(archive, f"it is damaged ({error})") from error
    except RecursionError as error:  # tarfile calls itself for each header of a header
        raise refused(archive, "a file has too many headers") from error
    except OSError as error:
        raise ReleaseError(
            "NQR-REL-023",
            f"{os.path.basename(archive)} could not be stored in {folder}: {error.strerror or error}.",
            "Free some space on that file system, then run the same command again.",
        ) from error


def refused(archive: str, why: str) -> ReleaseError:
    return ReleaseError(
        "NQR-REL-070",
        f"The archive {os.path.basename(archive)} is refused: {why}.",
        "Get the release from its publisher again. If this repeats, do not install it.",
    )


def _checked(archive: str, tar: tarfile.TarFile, largest: int, members: int) -> Iterator[tuple[tarfile.TarInfo, list[str]]]:
    """Yield each member with the parts of its name. Sizes are added up before anything is written."""
    seen: dict[tuple[str, ...], bool] = {}  # name -> whether others may be below it
    room, names = largest, NAMES
    for number, member in enumerate(tar):
        tar.members = []  # type: ignore[attr-defined]  # it remembers all of them
        if number >= members or len(seen) > members:
            raise refused(archive, f"it holds more than {members} files")
        name = member.name
        names -= len(name) + len(member.linkname)
        if names < 0 or name.count("/") > DEPTH:
            raise refused(archive, "its names are too long")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise refused(archive, f"{name} leaves its folder")
        if not (member.isreg() or member.isdir() or member.issym()):
            raise refused(archive, f"{name} is neither a file nor a folder")
        if member.issym():
            _stays_inside(archive, member, parts)
        room -= member.size
        if room < 0 or member.size < 0:
            raise refused(archive, f"it unpacks to more than {largest} bytes")
        if not parts and member.isdir():
            continue
        key = tuple(parts)
        if not key or (key in seen and not (seen[key] and member.isdir())):
            raise refused(archive, f"{name} is in it twice")
        for end in range(1, len(key)):
            if not seen.setdefault(key[:end], True):
                raise refused(archive, f"{name} is below a file or a link")
        seen[key] = member.isdir()
        yield member, parts


def _stays_inside(archive: str, member: tarfile.TarInfo, parts: list[str]) -> None:
    """A target may go up only at its beginning: after a name, `..` depends on where that name leads."""
    target = [part for part in member.linkname.split("/") if part not in ("", ".")]
    up = next((n for n, part in enumerate(target) if part != ".."), len(target))
    if member.linkname.startswith("/") or up > len(parts) - 1 or ".." in target[up:]:
        raise refused(archive, f"the link {member.name} leaves its folder")


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    os.makedirs(path if member.isdir() else os.path.dirname(path), 0o755, exist_ok=True)
    if member.isdir():
        return
    if member.issym():
        os.symlink(member.linkname, path)
        return
    source = tar.extractfile(member)
    assert source is not None  # it is a regular file
    mode = 0o755 if member.mode & 0o111 else 0o644
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as file:
        while piece := source.read(_PIECE):
            file.write(piece)
        os.fchmod(file.fileno(), mode)
