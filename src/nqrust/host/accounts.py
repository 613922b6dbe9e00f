"""Users and groups of this machine by name and number, through the C library (nsswitch.conf(5) decides)."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd

from nqrust.host.errors import PathError
from nqrust.host.port import Group, User


def user(name: str) -> User | None:
    try:
        return _user(pwd.getpwnam(name))
    except (KeyError, ValueError):
        return None


def current_user() -> User:
    with contextlib.suppress(KeyError):
        return _user(pwd.getpwuid(os.geteuid()))
    return User(str(os.geteuid()), os.geteuid(), os.getegid(), "/", "/bin/sh")


def group(name: str) -> Group | None:
    try:
        found = grp.getgrnam(name)
    except (KeyError, ValueError):
        return None
    return Group(found.gr_name, found.gr_gid, tuple(found.gr_mem))


def uid(owner: str, path: str) -> int:
    """Return the number of a name, or of a number as text. Raises PathError: the owner of `path` cannot be set to it."""
    found = user(owner)
    if found is not None:
        return found.uid
    if owner.isdecimal():
        return int(owner)
    raise PathError(path, f"there is no user {owner} on this host to own it", errno.EINVAL)


def gid(name: str, path: str) -> int:
    found = group(name)
    if found is not None:
        return found.gid
    if name.isdecimal():
        return int(name)
    raise PathError(path, f"there is no group {name} on this host to own it", errno.EINVAL)


class Names:
    """Numbers to names, cached while passwd(5) and group(5) are unchanged: a fingerprint looks up tens of thousands of files."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[tuple[int, int], dict[int, str]]] = {}

    def of_user(self, number: int) -> str:
        names = self._table("/etc/passwd")
        if number not in names:
            try:
                names[number] = pwd.getpwuid(number).pw_name
            except (KeyError, OverflowError):
                names[number] = str(number)
        return names[number]

    def of_group(self, number: int) -> str:
        names = self._table("/etc/group")
        if number not in names:
            try:
                names[number] = grp.getgrgid(number).gr_name
            except (KeyError, OverflowError):
                names[number] = str(number)
        return names[number]

    def _table(self, database: str) -> dict[int, str]:
        try:
            found = os.stat(database)
            version = (found.st_mtime_ns, found.st_ino)
        except OSError:
            version = (0, 0)
        kept = self._kept.get(database)
        if kept is None or kept[0] != version:
            kept = self._kept[database] = (version, {})
        return kept[1]


def _user(entry: pwd.struct_passwd) -> User:
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell)
