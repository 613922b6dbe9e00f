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

RECORD = f"{CACHE_DIR}/bootstrap.json"
ELSEWHERE = f"{CACHE_DIR}/elsewhere"
"""Caches at other places (NQR_CACHE_DIR), one a line: `made PATH`, or `used PATH` for a folder that was there and empty."""
SCHEMA = 1

_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_:-]*")


@dataclass(frozen=True)
class BootstrapRecord:
    """`manager`: apt, dnf or "". `packages`: newly installed by the bootstrap and still needed (Python itself, where
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
    return BootstrapRecord(manager if manager in ("apt", "dnf") else "", packages)


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
        names = " ".join(shlex.quote(name) for name in record.packages)
        if record.manager == "apt":
            # apt-get would take along what needs them by now: then they stay.
            lines += [
                f"names={shlex.quote(names)}",
                'apt() { DEBIAN_FRONTEND=noninteractive SUDO_FORCE_REMOVE=yes LC_ALL=C.UTF-8 apt-get -q -y -o DPkg::Lock::Timeout=600 "$@" 2>/dev/null </dev/null; }',
                f"going=$(apt -s purge -- {names}) || going='Purg -'",
                "for name in $(printf '%s\\n' \"$going\" | sed -nE 's/^(Purg|Remv) ([^ ]+).*/\\2/p'); do",
                '    case " $names " in *" $name "*) ;; *) names= ;; esac',
                "done",
                f"{{ [ -n \"$names\" ] && apt purge -- {names} >/dev/null; }} || echo 'Left installed: {names}' >&2",
            ]
        elif record.manager == "dnf":
            # dnf would take along what needs them by now; rpm says so.
            lines += [
                f'for name in {names}; do rpm -q "$name" >/dev/null 2>&1 && set -- "$@" "$name"; done',
                '[ $# -eq 0 ] || { rpm -e --test --allmatches "$@" && dnf -y -q --setopt=clean_requirements_on_remove=0 remove "$@"; }'
                f" >/dev/null 2>&1 </dev/null || echo 'Left installed: {names}' >&2",
            ]
    return "\n".join(lines) + "\n"
