"""The record of the bootstrap's changes (scripts/install/install.sh), which uninstall takes back last."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from dataclasses import dataclass

from nqrust.contract.paths import CACHE_DIR
from nqrust.host.errors import HostError, PathMissing
from nqrust.host.port import Host, Kind
from nqrust.host.way import way
from nqrust.installer.verbs.packages.registry import MANAGERS

RECORD = f"{CACHE_DIR}/bootstrap.json"
ELSEWHERE = f"{CACHE_DIR}/elsewhere"
"""Caches in other places (NQR_CACHE_DIR), one a line: `made PATH`, or `used PATH` for an existing empty folder."""
SCHEMA = 1

_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_:-]*")


@dataclass(frozen=True)
class BootstrapRecord:
    """The bootstrap's changes. `manager`: its name in `verbs.packages.registry`, or "". `packages`: newly installed and still
    needed (Python, on a host without it). The bootstrap removes python3-venv right after use; `packages` lists it only if
    that failed. `cache`: the folder for the environment, wheels and builds, which nqr alone uses. `elsewhere`: more caches,
    and whether the bootstrap created the folder."""

    manager: str = ""
    packages: tuple[str, ...] = ()
    cache: str = CACHE_DIR
    elsewhere: tuple[tuple[str, bool], ...] = ()

    @property
    def caches(self) -> tuple[str, ...]:
        return (self.cache, *(path for path, _ in self.elsewhere))


def read(host: Host, path: str = RECORD) -> BootstrapRecord | None:
    """Return the record, with those of caches in other places, or None if the bootstrap never ran here. Ignores malformed
    parts."""
    found = _read(host, path)
    others = elsewhere(host)
    if found is None or not others:
        return found
    records = [found, *(_read(host, f"{other}/bootstrap.json") or BootstrapRecord() for other, _ in others)]
    manager = next((record.manager for record in records if record.manager), "")
    packages = dict.fromkeys(name for record in records for name in record.packages)
    return BootstrapRecord(manager, tuple(packages), found.cache, others)


def elsewhere(host: Host) -> tuple[tuple[str, bool], ...]:
    """Return existing caches in other places, and whether the bootstrap created the folder."""
    return tuple((path, how == "made") for path, how in _listed(host) if _is_roots(host, path) and _is_cache(host, path))


def left_alone(host: Host) -> tuple[str, ...]:
    """Return a sentence for each recorded cache that stays, as nqr does not know whose content it is. Since it was made, a reboot
    can have emptied /tmp, and another user can have made a folder or a link with the same name."""
    return tuple(
        f"{path} stays, with the packages that its record names, because another user than root could have replaced it."
        for path, _ in _listed(host)
        if not _is_roots(host, path) and _is_there(host, path)
    )


def _listed(host: Host) -> tuple[tuple[str, str], ...]:
    try:
        lines = host.read_text(ELSEWHERE).splitlines()
    except PathMissing:
        return ()
    rows = {path: how for how, _, path in (line.partition(" ") for line in lines) if how in ("made", "used")}
    return tuple(
        (path, how) for path, how in rows.items() if path == posixpath.normpath(path) and path.startswith("/") and path != "/"
    )


def _is_cache(host: Host, path: str) -> bool:
    """Return whether the bootstrap works in this folder. A list alone never justifies a removal."""
    stat = host.stat(path)
    if stat is None or stat.kind is not Kind.directory:
        return False
    names = host.listdir(path)
    return not names or "bootstrap.json" in names or "bootstrap.log" in names


def _is_there(host: Host, path: str) -> bool:
    try:
        return host.stat(path) is not None
    except HostError:  # such as a file system of a user that root cannot read
        return True


def _is_roots(host: Host, path: str) -> bool:
    """Return whether only root can change what is at a path, or put something else there at any later time: `undo.sh` removes it
    long after this. A sticky folder on the way, such as /tmp, keeps a folder only while it is there."""
    return all(stat.kind is Kind.directory and stat.uid == 0 and not stat.mode & 0o022 for _, stat in way(host, path))


def _read(host: Host, path: str) -> BootstrapRecord | None:
    try:
        data = json.loads(host.read_text(path))
    except PathMissing:
        return BootstrapRecord() if host.exists(CACHE_DIR) else None
    except ValueError:
        return BootstrapRecord()
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        return BootstrapRecord()
    listed = data.get("packages")
    packages = tuple(p for p in listed if isinstance(p, str) and _PACKAGE.fullmatch(p)) if isinstance(listed, list) else ()
    manager = data.get("manager")
    return BootstrapRecord(manager if isinstance(manager, str) and manager in MANAGERS else "", packages)


def _removal(path: str, made: bool) -> str:
    folder = shlex.quote(path)
    return f"rm -rf -- {folder}" if made else f"rm -rf -- {folder}/* {folder}/.[!.]* {folder}/..?*"


def farewell(record: BootstrapRecord, *, keep_packages: bool = False) -> str:
    """Return a shell script that removes the caches and the bootstrap's packages.

    The running program may live in that cache, on that Python. So a successful uninstall passes the script to execv(2) of
    `/bin/sh -c` as its last act.
    """
    lines = ["cd /", *(_removal(path, made) for path, made in record.elsewhere), f"rm -rf -- {shlex.quote(record.cache)}"]
    if record.packages and not keep_packages:
        lines += MANAGERS[record.manager].shell.farewell(record.packages) if record.manager else []
    return "\n".join(lines) + "\n"
