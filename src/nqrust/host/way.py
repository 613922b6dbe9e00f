"""The folders and links on the way to a file: who owns one of them decides where the way leads (path_resolution(7))."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from nqrust.host.port import Host, Kind, Stat

_LINKS = 40
"""As many links as the kernel follows on one way."""


def way(host: Host, path: str) -> Iterator[tuple[str, Stat]]:
    """Yield each folder and each link on the way to an absolute path, then what is there, as far as they exist."""
    at, ahead, links = "/", _parts(path), 0
    while (stat := host.stat(at)) is not None:
        yield at, stat
        if stat.kind is Kind.symlink:
            links += 1
            if links > _LINKS:
                return
            target = posixpath.join(posixpath.dirname(at), host.readlink(at))
            at, ahead = "/", _parts(posixpath.normpath(target)) + ahead
        elif ahead and stat.kind is Kind.directory:
            at = posixpath.join(at, ahead.pop(0))
        else:
            return


def leads(host: Host, path: str) -> Iterator[str]:
    """Yield an absolute path, then the one that each link on the way turns it into. The last is without links, as far as it exists."""
    at, ahead, links = "/", _parts(path), 0
    yield path
    while ahead:
        at = posixpath.join(at, ahead.pop(0))
        stat = host.stat(at)
        if stat is not None and stat.kind is Kind.symlink:
            links += 1
            if links > _LINKS:
                return
            path = posixpath.normpath(posixpath.join(posixpath.dirname(at), host.readlink(at), *ahead))
            at, ahead = "/", _parts(path)
            yield path


def led_by_others(host: Host, folder: str, *users: int) -> str | None:
    """Return what a user besides root and `users` can change on the way to a folder: a folder or a link. That user can lead
    elsewhere what others write there by its path. None: nobody can."""
    for path, stat in way(host, folder):
        if stat.uid not in (0, *users) if stat.kind is Kind.symlink else others_may_replace(stat, *users):
            return path
    return None


def others_may_replace(folder: Stat, *users: int) -> bool:
    """Return whether a user besides root and `users` can rename what is in a folder: its owner always may, and who can write to it
    may unless it is sticky (inode(7)). Root's group counts, too: with an access list, its bits are the list's mask (acl(5))."""
    return folder.uid not in (0, *users) or bool(folder.mode & 0o022 and not folder.mode & 0o1000)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]
