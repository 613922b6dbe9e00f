"""Clusters that Debian's PostgreSQL was making when its package script was killed.

The script runs again, but pg_createcluster(1) takes the torn folder for a cluster and gives up. The package is installed then,
and has no cluster.
"""

from __future__ import annotations

from collections.abc import Iterable

from nqrust.host.port import Host
from nqrust.installer.verbs import cluster_data

_SERVER = "postgresql-"
_MOVED = ("postgresql.conf", "pg_hba.conf", "pg_ident.conf")  # pg_createcluster moves them last, in this order


def remove(host: Host, unfinished: Iterable[str]) -> None:
    """Remove the torn cluster `main` of each server among the packages `unfinished`. A complete one stays, as does one that a
    server has run on: each server leaves postmaster.opts (postgres(1))."""
    for name in unfinished:
        version = name.removeprefix(_SERVER)
        if name == version or not version.isdecimal():
            continue
        data, configuration = f"/var/lib/postgresql/{version}/main", f"/etc/postgresql/{version}/main"
        complete = all(host.exists(f"{configuration}/{file}") for file in _MOVED) or host.exists(f"{data}/postmaster.opts")
        if not complete and cluster_data.is_torn(host, data):
            host.remove_tree(configuration)
            host.remove_tree(data)
