"""Data of users that the purge of a package deletes with it: such packages stay while there is any.

Debian's postgresql-common drops every cluster when it is purged (its postrm), with all databases, whoever made them.
nqr drops its own database before it comes to the packages, so what is found here belongs to others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nqrust.host.errors import HostError
from nqrust.host.port import Host

CLUSTERS = "/var/lib/postgresql/{}/*/PG_VERSION"
_FIRST_OF_USERS = 16384
"""Object numbers from here on are of users (PostgreSQL, src/include/access/transam.h: FirstNormalObjectId)."""
_SERVER = re.compile(r"postgresql-(?:common|(\d+))(?::\w+)?\Z")


def guarded(going: Iterable[str]) -> set[str]:
    """Those of `going` whose purge deletes clusters: Debian's postgresql-common all of them, a server those of its version."""
    return {name for name in going if _SERVER.match(name)}


def of_others(host: Host, going: Iterable[str]) -> list[str]:
    """Data folders of the clusters that go with `going` and hold a database or tables of users. Reads folders only, so a
    cluster that does not run is seen too (PostgreSQL, Database File Layout)."""
    versions = {found[1] or "*" for name in going if (found := _SERVER.match(name))}
    folders = {path.rpartition("/")[0] for version in versions for path in host.glob(CLUSTERS.format(version))}
    return sorted(folder for folder in folders if _is_used(host, f"{folder}/base"))


def _is_used(host: Host, base: str) -> bool:
    try:
        databases = [name for name in host.listdir(base) if name.isdecimal()]
        return any(
            int(database) >= _FIRST_OF_USERS or any(_is_of_users(file) for file in host.listdir(f"{base}/{database}"))
            for database in databases
        )
    except HostError:
        return False  # the cluster is gone, or was never finished


def _is_of_users(file: str) -> bool:
    number = re.match(r"\d+", file)
    return number is not None and int(number.group()) >= _FIRST_OF_USERS
