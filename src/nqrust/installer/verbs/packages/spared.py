"""Older files that the purge of newer packages removes: Debian 13's `locales` removes locale.conf(5), whoever wrote it. nqr
reads them before the purge and restores them after it."""

from __future__ import annotations

import base64
import hashlib
import posixpath
from typing import Any

from nqrust.host.port import Host, Kind
from nqrust.installer.verbs.file.undo import owners
from nqrust.installer.verbs.packages import traces

_LIMIT = 1 << 20  # bytes of a file; maintainer scripts name configuration


def look(
    host: Host, before: dict[str, Any], scripts: str, listed: frozenset[str], asides: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return path -> current state of files and symbolic links that existed `before` and that packages list or their scripts
    name. `asides`: see `Remover`; a file with the first suffix is the original. JSON values only."""
    found: dict[str, Any] = {}
    there = set(before["paths"])
    for path in sorted((traces.named(scripts) | listed) & there):
        beside = [path + end for end in asides if path + end not in there]
        original = next((name for name in beside if name == path + asides[0] and host.exists(name)), path)
        stat = host.stat(original)
        if stat is None:
            continue
        if stat.kind is Kind.symlink:
            found[path] = {"target": host.readlink(original)}
        elif stat.kind is Kind.file and stat.size <= _LIMIT:
            found[path] = {
                "content": base64.b64encode(host.read_bytes(original)).decode(),
                "mode": stat.mode,
                "owner": stat.owner,
                "group": stat.group,
                "xattrs": {name: base64.b64encode(value).decode() for name, value in host.xattrs(original).items()},
            }
            if beside:
                now = {name: host.sha256(name) for name in beside if _is_file(host, name)}
                found[path]["beside"] = {name: now.get(name, host.sha256(original)) for name in beside}
        folder = posixpath.dirname(path)
        if path in found and folder in listed & there:
            holder = host.stat(folder)
            assert holder is not None
            found[path]["folder"] = [holder.mode, holder.owner, holder.group]
    return found


def _is_file(host: Host, path: str) -> bool:
    stat = host.stat(path)
    return stat is not None and stat.kind is Kind.file


def put_back(host: Host, found: dict[str, Any]) -> None:
    """Restore missing files, with a folder that a package removed; existing ones stay. Remove identical copies that the
    package manager left beside them. Safe to repeat."""
    for path, row in found.items():
        _put_back(host, path, row)
        beside = row.get("beside", {})
        if beside and _is_file(host, path) and host.sha256(path) == digest(row):
            for name, known in beside.items():
                if _is_file(host, name) and host.sha256(name) == known:
                    host.remove(name)


def digest(row: dict[str, Any]) -> str:
    """Return the sha256 of a row's content in hex."""
    return hashlib.sha256(base64.b64decode(row["content"])).hexdigest()


def _put_back(host: Host, path: str, row: dict[str, Any]) -> None:
    if host.stat(path) is not None:
        return
    folder = posixpath.dirname(path)
    if host.stat(folder) is None:
        if "folder" not in row or host.stat(posixpath.dirname(folder)) is None:
            return
        mode, owner, group = row["folder"]
        owner, group, _ = owners(host, owner, group)
        host.mkdir(folder, mode=mode, owner=owner, group=group)
    if "target" in row:
        host.symlink(row["target"], path)
    else:
        xattrs = {name: base64.b64decode(value) for name, value in row["xattrs"].items()}
        content = base64.b64decode(row["content"])
        owner, group, _ = owners(host, row["owner"], row["group"])
        host.write_file(path, content, mode=row["mode"], owner=owner, group=group, xattrs=xattrs)
