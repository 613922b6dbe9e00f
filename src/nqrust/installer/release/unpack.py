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

from nqrust.installer.engine.errors import ReleaseError

MEMBERS = 200_000
BYTES = 2 << 30
_PIECE = 1 << 20


def unpack(archive: str, folder: str, *, largest: int = BYTES, members: int = MEMBERS) -> None:
    """Unpack a tar archive, compressed or not, into the new folder `folder`. `largest`: bytes of all files together.

    Raises ReleaseError NQR-REL-070 for an archive that is refused or damaged, 023 for a full disk. Files unpacked before stay in
    `folder`.
    """
    try:
        os.mkdir(folder, 0o755)
        with tarfile.open(archive, "r|*") as tar:
            for member, parts in _checked(archive, tar, largest, members):
                _write(tar, member, os.path.join(folder, *parts))
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise refused(archive, f"it is damaged ({error})") from error
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
    room = largest
    for number, member in enumerate(tar):
        if number >= members:
            raise refused(archive, f"it holds more than {members} files")
        name = member.name
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts:
            raise refused(archive, f"{name} leaves its folder")
        if not (member.isreg() or member.isdir() or member.issym()):
            raise refused(archive, f"{name} is neither a file nor a folder")
        if member.issym():
            _stays_inside(archive, member, parts)
        room -= member.size
        if room < 0:
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
