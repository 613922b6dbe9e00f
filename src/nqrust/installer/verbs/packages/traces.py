"""Files and accounts that package scripts create and their purge leaves. nqr compares the host before and after, and uses the
scripts' text to exclude changes by others in the same minutes.

A new path or account counts as the transaction's only with one of these proofs: a script of a new package names it, a package
lists it, it belongs to an account of the transaction, or it lies in a folder of the transaction. In doubt it belongs to
somebody else and stays. So does everything that changed since, or that a package owns.
"""

from __future__ import annotations

import gzip
import json
import posixpath
import re
from collections.abc import Callable, Iterable
from typing import Any

from nqrust.contract import paths as product
from nqrust.host import mounts
from nqrust.host.errors import HostError, PathError
from nqrust.host.port import Host, Kind, Stat, command
from nqrust.installer.verbs import cluster_data
from nqrust.installer.verbs.account.undo import remove_user

ROOTS = {
    "/etc": 5, "/var/lib": 2, "/var/log": 2, "/var/cache": 2, "/var/spool": 3, "/usr/local": 3, "/opt": 1, "/srv": 1, "/root": 1,
}  # fmt: skip
"""Folders to search, and the depth. Deeper new files in an older folder stay; those in a new folder go with it."""

CLOSED = frozenset(
    (
        "/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/var/lib/kubelet", "/var/log/journal", "/var/lib/snapd",
        product.STATE_DIR, product.CACHE_DIR,
    )
)  # fmt: skip
"""Folders to skip: programs write to them all the time. `Database.closed` adds the package managers' databases, which undo
their own entries."""

NOTHING: dict[str, Any] = {"paths": {}, "users": [], "groups": []}

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_PATH = re.compile(r"/[A-Za-z0-9_.+/-]*[A-Za-z0-9_+-]")

LEVELS = 16
"""Folders below a new folder in which empty ones are looked for: its user decides how many there are."""

_DETAILS = 300  # maximum entries of one new folder to record separately
_HASHED = 4 << 20  # bytes; larger files are compared by size and change time
_SYSTEM_IDS = 1000  # login.defs(5), SYS_UID_MAX: scripts create only system accounts


def survey(host: Host, closed: frozenset[str] = CLOSED) -> dict[str, Any]:
    """Return the current paths, users and groups. JSON values only. `closed`: folders to skip."""
    foreign = _foreign(host)
    paths: list[str] = []
    for root, depth in ROOTS.items():
        paths.extend(_below(host, root, depth, foreign, closed))
    return {"paths": sorted(paths), "users": sorted(_ids(host, "passwd")), "groups": sorted(_ids(host, "group"))}


def pack(found: dict[str, Any]) -> bytes:
    return gzip.compress(json.dumps(found, separators=(",", ":")).encode(), 6, mtime=0)


def unpack(data: bytes) -> dict[str, Any]:
    found = json.loads(gzip.decompress(data))
    assert isinstance(found, dict)
    return found


def made(
    host: Host, before: dict[str, Any], scripts: str, listed: frozenset[str], closed: frozenset[str] = CLOSED
) -> dict[str, Any]:
    """Return the transaction's additions since `before`. `scripts`: text of its packages' maintainer scripts; `listed`: paths
    in its packages. Returns {"paths": {path: row}, "users": [...], "groups": [...]}."""
    now = survey(host, closed)
    words = set(_WORD.findall(scripts))
    users = _new_accounts(before["users"], _ids(host, "passwd"), words)
    groups = _new_accounts(before["groups"], _ids(host, "group"), words)
    there = set(before["paths"])
    mentioned = named(scripts)
    paths: dict[str, list[Any]] = {}
    links: dict[str, str] = {}
    for path in now["paths"]:
        parent = path.rpartition("/")[0]
        if path in there or (parent not in there and parent not in ROOTS):
            continue  # older, or goes with its folder
        stat = host.stat(path)
        if stat is None:
            continue
        if path in listed or path in mentioned or stat.owner in users or stat.group in groups:
            paths[path] = row(host, path, stat)
            if stat.kind is Kind.directory:
                paths.update(_inside(host, path))
        elif stat.kind is Kind.symlink and parent in there:
            links[path] = posixpath.normpath(posixpath.join(parent, host.readlink(path)))
    for path, target in links.items():
        if target in paths:  # an index of new files, as c_rehash(1) writes it
            paths[path] = ["symlink", host.readlink(path)]
    return {"paths": paths, "users": users, "groups": groups}


def named(scripts: str) -> set[str]:
    """Return paths in the text of maintainer scripts."""
    return set(_PATH.findall(scripts))


def row(host: Host, path: str, stat: Stat) -> list[Any]:
    """Return the properties that identify a path later. For a folder only its type, because only an empty folder goes."""
    if stat.kind is Kind.symlink:
        return ["symlink", host.readlink(path)]
    if stat.kind is Kind.file:
        return ["file", host.sha256(path) if stat.size <= _HASHED else f"{stat.size} {stat.mtime_ns}"]
    return [stat.kind.value]


def remove(host: Host, found: dict[str, Any], owned: frozenset[str], others: str = "") -> list[str]:
    """Remove everything that is unchanged since the transaction; return sentences about the rest. Safe to repeat.

    `owned`: paths of the installed packages; `others`: scripts of later packages. Paths in either now belong to them.
    """
    left: list[str] = []
    words = set(_WORD.findall(others))
    owned = owned | named(others)
    for path in sorted(found["paths"], reverse=True):  # a folder's content comes before it
        stat = host.stat(path)
        if stat is None:
            continue
        if path in owned:
            continue  # a remaining package owns it now
        if row(host, path, stat) != found["paths"][path]:
            left.append(f"{path} was made by a package script and changed since, so it stays")
        elif stat.kind is Kind.directory:
            left += _remove_empty(host, path)
        elif stat.kind is not Kind.other:
            left += _not_removed(path, host.remove)
    for file, names in (("passwd", found["users"]), ("group", found["groups"])):
        for name in names:
            if name in words:
                left.append(f"{name} was made by a package script and is used by another package now, so it stays")
            elif name not in _ids(host, file):
                continue
            elif file == "passwd":
                remove_user(host, name)
            else:
                host.run(command("groupdel", name, ok=(0, 6, 8)))
    return left


def _remove_empty(host: Host, path: str, levels: int = LEVELS) -> list[str]:
    """Remove a folder with its empty folders and torn clusters. Another cluster stays whole: a server needs its empty folders."""
    if host.exists(f"{path}/PG_VERSION"):
        if not cluster_data.is_torn(host, path):
            return [f"{path} was made by a package script and is a PostgreSQL cluster, so it stays"]
        return _not_removed(path, host.remove_tree)
    for name in host.listdir(path) if levels else ():
        below = f"{path}/{name}"
        stat = host.stat(below)
        if stat is not None and stat.kind is Kind.directory:
            _remove_empty(host, below, levels - 1)
    holds = host.listdir(path)
    if holds:
        return [f"{path} was made by a package script and holds {', '.join(holds[:3])}, so it stays"]
    return _not_removed(path, host.rmdir)


def _not_removed(path: str, remove: Callable[[str], None]) -> list[str]:
    """Remove it, or return why it stays: on the way there can be a link that another user made."""
    try:
        remove(path)
    except PathError as error:
        return [f"{path} could not be removed: {error}"]
    return []


def _inside(host: Host, top: str) -> dict[str, list[Any]]:
    """Return rows of a new folder's content; nothing if it is too large, or a server's data."""
    found: dict[str, list[Any]] = {}
    todo = [top]
    while todo:
        folder = todo.pop()
        names = host.listdir(folder)
        if "PG_VERSION" in names:
            continue
        for name in names:
            path = f"{folder}/{name}"
            stat = host.stat(path)
            if stat is None:
                continue
            if len(found) >= _DETAILS:
                return {}
            found[path] = row(host, path, stat)
            if stat.kind is Kind.directory:
                todo.append(path)
    return found


def _below(host: Host, root: str, depth: int, foreign: frozenset[str], closed: frozenset[str]) -> Iterable[str]:
    todo = [(root, depth)]
    while todo:
        folder, left = todo.pop()
        try:
            names = host.listdir(folder)
        except HostError:
            continue
        for name in names:
            path = f"{folder}/{name}"
            if path in closed:
                continue
            yield path
            if left > 1 and path not in foreign:
                stat = host.stat(path)
                if stat is not None and stat.kind is Kind.directory:
                    todo.append((path, left - 1))


def _foreign(host: Host) -> frozenset[str]:
    try:
        return mounts.points_of_others(mounts.parse_mountinfo(host.read_text(mounts.MOUNTINFO)))
    except HostError:
        return frozenset()


def _ids(host: Host, file: str) -> dict[str, int]:
    """Return names and numbers of passwd(5) or group(5), without network directories."""
    try:
        content = host.read_text(f"/etc/{file}")
    except HostError:
        return {}
    rows = (line.split(":") for line in content.splitlines())
    return {fields[0]: int(fields[2]) for fields in rows if len(fields) > 2 and fields[2].isdigit()}


def _new_accounts(before: list[str], now: dict[str, int], words: set[str]) -> list[str]:
    return sorted(name for name, number in now.items() if name not in before and number < _SYSTEM_IDS and name in words)
