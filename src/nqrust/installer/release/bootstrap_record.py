"""What the bootstrap (scripts/install/install.sh) brought to the host, so that uninstall can take it back last."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass

from nqrust.contract.paths import CACHE_DIR
from nqrust.host.errors import PathMissing
from nqrust.host.port import Host

RECORD = f"{CACHE_DIR}/bootstrap.json"
SCHEMA = 1

_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_:-]*")


@dataclass(frozen=True)
class BootstrapRecord:
    """`manager`: apt, dnf or "". `packages`: newly installed by the bootstrap and still needed (Python itself, where
    the host had none); python3-venv is given back right after use and is listed only when that failed. `cache`: the
    folder that holds the environment, wheels and builds; it is ours alone."""

    manager: str = ""
    packages: tuple[str, ...] = ()
    cache: str = CACHE_DIR


def read(host: Host, path: str = RECORD) -> BootstrapRecord | None:
    """The record, or None when the bootstrap never ran here. What is not well formed is left out, never guessed."""
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


def farewell(record: BootstrapRecord, *, keep_packages: bool = False) -> str:
    """A shell script that removes the cache and the bootstrap's packages.

    The running program may live in that cache, on that Python: hand this to execv(2) of `/bin/sh -c` as the very last
    act of a successful uninstall.
    """
    lines = ["cd /", f"rm -rf -- {shlex.quote(record.cache)}"]
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
