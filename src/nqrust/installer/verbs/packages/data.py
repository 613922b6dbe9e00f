"""Data of users that a removal of PostgreSQL's server would delete or make unreadable. The server's packages stay while there
is any."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase

from nqrust.host.facts import postgres
from nqrust.host.port import Host
from nqrust.installer.verbs import cluster_data


def of_others(host: Host, patterns: Collection[str]) -> str:
    """Return why PostgreSQL stays for data of users, with the cure; "" if it can go. `patterns`: usual data folders of the clusters
    that go. A cluster may have its data elsewhere, and its package drops it there. It may also be on a disk that is not mounted."""
    folders = {path.rpartition("/")[0] for pattern in patterns for path in host.glob(f"{pattern}/PG_VERSION")}
    clusters = postgres.probe(host) if patterns else ()
    going = [cluster for cluster in clusters if any(fnmatchcase(cluster.place, pattern) for pattern in patterns)]
    folders |= {cluster.data_dir for cluster in going}
    if used := sorted(folder for folder in folders if cluster_data.is_used(host, folder)):
        return cluster_data.stays(used)
    away = [cluster_data.away(cluster) for cluster in going if cluster_data.is_away(host, cluster)]
    return f"PostgreSQL stays: {away[0]}" if away else ""
