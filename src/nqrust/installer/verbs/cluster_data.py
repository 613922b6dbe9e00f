"""Data of users in a PostgreSQL cluster: nqr never removes a cluster with such data, whoever created the cluster.

nqr drops its own database before it removes a cluster or a server, so any remaining data belongs to others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nqrust.host.errors import HostError
from nqrust.host.port import Host

HOLDS = "holds data that nqr did not create. Move or drop it, then"
_FIRST_OF_USERS = 16384
"""First object number of users (PostgreSQL, src/include/access/transam.h: FirstNormalObjectId)."""

FUNCTIONS = (
    r"""used_cluster() { # data folder of PostgreSQL: whether it holds databases, tables or tablespaces of users
    [ -e "$1/PG_VERSION" ] || return 1
    # What users make has numbers from 16384 on.
    { ls "$1/base"; ls "$1"/base/*; ls "$1/pg_tblspc"; } 2>/dev/null | sed -n 's/^\([0-9]\{5,\}\).*/\1/p' | while read -r number; do
        [ "$number" -lt 16384 ] || echo found
    done | grep -q found
}
torn_cluster() { # folder: whether it is a cluster without data of users, on which no server runs
    if [ ! -e "$1/PG_VERSION" ] || used_cluster "$1"; then return 1; fi
    [ -f "$1/postmaster.pid" ] || return 0 # a pipe would wait for somebody who writes to it
    server=$(sed -n 1p "$1/postmaster.pid" 2>/dev/null)
    case $server in '' | *[!0-9]*) return 0 ;; esac
    case $(cat "/proc/$server/comm" 2>/dev/null) in postgres*) return 1 ;; esac
}
cluster_stays() { # data folders that hold data of users
"""
    f'    try false "PostgreSQL stays: $1 {HOLDS} run this again"\n}}\n'
)


def is_used(host: Host, folder: str) -> bool:
    """Return whether `folder` is a cluster that holds a database, a table or a tablespace of users. Reads only folders, so it
    includes stopped clusters (PostgreSQL, Database File Layout)."""
    if not host.exists(f"{folder}/PG_VERSION"):
        return False
    databases = [name for name in _names(host, f"{folder}/base") if name.isdecimal()]
    objects = [*databases, *(file for database in databases for file in _names(host, f"{folder}/base/{database}"))]
    return any(map(_is_of_users, (*objects, *_names(host, f"{folder}/pg_tblspc"))))


def is_torn(host: Host, folder: str) -> bool:
    """Return whether `folder` is a cluster without data of users, on which no server runs: an initdb(1) that was killed leaves
    one, which pg_lsclusters(1) does not list and no purge drops."""
    if not host.exists(f"{folder}/PG_VERSION") or is_used(host, folder):
        return False
    try:
        pid = host.read_text(f"{folder}/postmaster.pid").partition("\n")[0].strip()
        return not (pid.isdecimal() and host.read_text(f"/proc/{pid}/comm").startswith("postgres"))
    except HostError:
        return True  # never started, or its server has ended


def stays(folders: Iterable[str]) -> str:
    """Return one sentence why PostgreSQL stays, and one with the cure."""
    return f"PostgreSQL stays: {' and '.join(folders)} {HOLDS} uninstall again"


def _names(host: Host, folder: str) -> list[str]:
    try:
        return host.listdir(folder)
    except HostError:
        return []  # the cluster is gone, or was never complete


def _is_of_users(name: str) -> bool:
    number = re.match(r"\d+", name)
    return number is not None and int(number.group()) >= _FIRST_OF_USERS
