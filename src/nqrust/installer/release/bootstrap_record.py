"""What the bootstrap (scripts/install/install.sh) brought to the host, so that uninstall can take it back last."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from dataclasses import dataclass

from nqrust.contract.paths import CACHE_DIR
from nqrust.host.errors import PathMissing
from nqrust.host.port import Host, Kind
from nqrust.installer.verbs.packages.registry import MANAGERS

RECORD = f"{CACHE_DIR}/bootstrap.json"
ELSEWHERE = f"{CACHE_DIR}/elsewhere"
"""Caches at other places (NQR_CACHE_DIR), one a line: `made PATH`, or `used PATH` for a folder that was there and empty."""
SCHEMA = 1

_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_:-]*")


@dataclass(frozen=True)
class BootstrapRecord:
    """`manager`: its name in `verbs.packages.registry`, or "". `packages`: newly installed by the bootstrap and still needed (Python itself, where
    the host had none); python3-venv is given back right after use and is listed only when that failed. `cache`: the
    folder that holds the environment, wheels and builds; it is ours alone. `elsewhere`: more of these, and whether the
    bootstrap made the folder itself."""

    manager: str = ""
    packages: tuple[str, ...] = ()
    cache: str = CACHE_DIR
    elsewhere: tuple[tuple[str, bool], ...] = ()

    @property
    def caches(self) -> tuple[str, ...]:
        return (self.cache, *(path for path, _ in self.elsewhere))


def read(host: Host, path: str = RECORD) -> BootstrapRecord | None:
    """The record, with those of caches at other places; None when the bootstrap never ran here. What is not well formed is
    left out, never guessed."""
    found = _read(host, path)
    others = elsewhere(host)
    if found is None or not others:
        return found
    records = [found, *(_read(host, f"{other}/bootstrap.json") or BootstrapRecord() for other, _ in others)]
    manager = next((record.manager for record in records if record.manager), "")
    packages = dict.fromkeys(name for record in records for name in record.packages)
    return BootstrapRecord(manager, tuple(packages), found.cache, others)


def elsewhere(host: Host) -> tuple[tuple[str, bool], ...]:
    """Caches at other places that are there, and whether the bootstrap made the folder itself."""
    try:
        lines = host.read_text(ELSEWHERE).splitlines()
    except PathMissing:
        return ()
    rows = [(path, how) for how, _, path in (line.partition(" ") for line in lines) if how in ("made", "used")]
    return tuple((path, how == "made") for path, how in dict(rows).items() if _is_cache(host, path))


def _is_cache(host: Host, path: str) -> bool:
    """A folder that the bootstrap works in; nothing else may be removed on the word of a list."""
    stat = host.stat(path) if path == posixpath.normpath(path) and path.startswith("/") and path != "/" else None
    if stat is None or stat.kind is not Kind.directory:
        return False
    names = host.listdir(path)
    return not names or "bootstrap.json" in names or "bootstrap.log" in names


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
    """A shell script that removes the caches and the bootstrap's packages.

    The running program may live in that cache, on that Python: hand this to execv(2) of `/bin/sh -c` as the very last
    act of a successful uninstall.
    """
    lines = ["cd /", *(_removal(path, made) for path, made in record.elsewhere), f"rm -rf -- {shlex.quote(record.cache)}"]
    if record.packages and not keep_packages:
        lines += MANAGERS[record.manager].shell.farewell(record.packages) if record.manager else []
    return "\n".join(lines) + "\n"
