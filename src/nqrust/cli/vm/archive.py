"""Files as a tar stream, as `nqr vm cp` sends and takes them. tar(5), the GNU format: busybox knows no other with long names.

The guest is hostile. An archive of its may have no path outside of the target, follows no link, sets no privileges, and makes
nothing but files, folders and links.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import IO, Any, cast

from nqrust.host.entering import entered, is_roots

_LONGEST_NAME = 64 * 1024
_ROW = 8
"""Headers with long names before a file: two are enough, for its name and for that of its target."""
_LINKS = 40
_PIECE = 1 << 18
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NAMES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class Hostile(Exception):
    """The archive has what no archive of a copy has."""


class _Header(tarfile.TarInfo):
    """A header that makes tarfile read neither long names into memory without end, nor holes onto the disk."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type == tarfile.XGLTYPE:
            raise Hostile("a header is for all files")
        row = getattr(archive, "row", 0) + 1 if self.type in _NAMES else 0
        archive.row = row  # type: ignore[attr-defined]
        if row > _ROW:
            raise Hostile("headers have no file")
        if self.type in _NAMES and self.size > _LONGEST_NAME:
            raise Hostile("a name is too long")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise Hostile("a file has holes")
        return super()._proc_member(archive)  # type: ignore[misc]

    def _holes(self, *_: object) -> None:
        raise Hostile("a file has holes")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _holes


def write(into: IO[bytes], source: str, name: str, skipped: Callable[[str], None]) -> None:
    """Write the file or folder `source` as `name`. Everything belongs to root. `skipped` gets what is neither file, folder nor
    link. Root follows no link of another user, who can put one there at any time. Raises OSError."""
    folder, entry = _place_of(source)
    try:
        with tarfile.open(fileobj=into, mode="w|", format=tarfile.GNU_FORMAT, bufsize=_PIECE) as archive:
            _add(archive, folder, entry, name, skipped)
    finally:
        os.close(folder)


def _place_of(source: str) -> tuple[int, str]:
    """Open the folder of `source`, and return it with the name in it. The caller closes it."""
    for _ in range(_LINKS):
        folder, name = os.path.split(os.path.join(os.getcwd(), source))
        place = entered(folder)
        try:
            found = os.stat(name or ".", dir_fd=place, follow_symlinks=False)
            if not stat.S_ISLNK(found.st_mode):
                return os.dup(place), name or "."
            if os.geteuid() == 0 and not is_roots(os.fstat(place), found):
                break
            source = os.path.join(folder, os.readlink(name, dir_fd=place))
        finally:
            os.close(place)
    raise OSError(errno.ELOOP, "it is a link of another user, or leads on to too many links", source)


def _add(archive: tarfile.TarFile, folder: int, entry: str, name: str, skipped: Callable[[str], None]) -> None:
    """Add an entry of an open folder, with all below it. It reads what it looked at, whatever takes the name meanwhile."""
    found = os.stat(entry, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        member = tarfile.TarInfo(name)
        member.type, member.mode, member.mtime = tarfile.SYMTYPE, 0o777, int(found.st_mtime)
        member.linkname = os.readlink(entry, dir_fd=folder)
        archive.addfile(_of_root(member))
        return
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        skipped(name)
        return
    opened = os.open(entry, _FILE, dir_fd=folder)
    try:
        member = archive.gettarinfo(arcname=name, fileobj=cast(IO[bytes], SimpleNamespace(name=name, fileno=lambda: opened)))
        if member is None or not (member.isreg() or member.isdir() or member.islnk()):
            skipped(name)
        elif member.isreg():
            with open(opened, "rb", closefd=False) as file:
                archive.addfile(_of_root(member), file)
        else:
            archive.addfile(_of_root(member))
            for below in sorted(os.listdir(opened)) if member.isdir() else ():
                _add(archive, opened, below, f"{name}/{below}", skipped)
    finally:
        os.close(opened)


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def read(source: IO[bytes], folder: str, name: str, skipped: Callable[[str], None]) -> None:
    """Make what is in the archive as `name` in the existing `folder`. Raises Hostile, OSError, tarfile.TarError (half of one)."""
    umask = os.umask(0)
    os.umask(umask)
    place = entered(folder)  # root follows no link of another user
    try:
        top: str | None = None
        with tarfile.open(fileobj=source, mode="r|", tarinfo=_Header, bufsize=_PIECE) as archive:
            for member in archive:
                first, *rest = _parts(member.name)
                if top not in (None, first):
                    raise Hostile("it has more than was asked for")
                if not rest and (member.issym() or member.islnk()):
                    raise Hostile("it is a link, and not what the link names")
                top = first
                if not _make(archive, member, place, [name, *rest], umask):
                    skipped(member.name)
                archive.members = []  # type: ignore[attr-defined]  # it remembers all of them
        if top is None:
            raise tarfile.ReadError("it is empty")
    except (ValueError, RecursionError) as error:  # of tarfile: a number that is none; of os: a name with a zero byte
        raise Hostile("a header is damaged") from error
    finally:
        os.close(place)


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise Hostile("a path leads out of it")
    return parts or ["."]


def _make(archive: tarfile.TarFile, member: tarfile.TarInfo, place: int, parts: list[str], umask: int) -> bool:
    """Make one member. False: it is of a kind that is left out."""
    folder, name = _folder_of(place, parts[:-1]), parts[-1]
    try:
        mode = member.mode & 0o777 & ~umask
        if member.isdir():
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=folder)
            made = os.open(name, _FOLDER, dir_fd=folder)
            os.fchmod(made, mode | 0o700)
            os.close(made)
        elif member.isreg():
            _file(archive, member, folder, name, mode)
        elif member.issym():
            _free(folder, name)
            os.symlink(member.linkname, name, dir_fd=folder)
        elif member.islnk():
            other = _parts(member.linkname)
            source = _folder_of(place, [parts[0], *other[1:-1]] if len(other) > 1 else [])
            try:
                _free(folder, name)
                os.link(
                    other[-1] if len(other) > 1 else parts[0], name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False
                )
            finally:
                os.close(source)
        else:
            return False
    finally:
        os.close(folder)
    return True


def _file(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: int, name: str, mode: int) -> None:
    """Under another name until it is complete."""
    half = f".{name[:200]}.nqr-{os.getpid()}"
    made = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        content = archive.extractfile(member)
        with os.fdopen(made, "wb", buffering=0) as file:
            while content and (piece := content.read(_PIECE)):
                view = memoryview(piece)
                while view:
                    view = view[file.write(view) or 0 :]
            os.fchmod(file.fileno(), mode)
            with suppress(OSError, OverflowError, ValueError):
                os.utime(file.fileno(), (member.mtime, member.mtime))
        _free(folder, name)
        os.rename(half, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(half, dir_fd=folder)
        raise


def _folder_of(place: int, parts: list[str]) -> int:
    """Open a folder below `place`, and make it. No part may be a link. The caller closes it."""
    found = os.dup(place)
    for part in parts:
        try:
            with suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=found)
            inner = os.open(part, _FOLDER, dir_fd=found)
        finally:
            os.close(found)
        found = inner
    return found


def _free(folder: int, name: str) -> None:
    """Remove a file or link that has the name. Raises IsADirectoryError."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise IsADirectoryError(f"{name} is a folder")
        os.unlink(name, dir_fd=folder)
