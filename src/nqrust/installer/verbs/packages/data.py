"""Data of users that a removal of PostgreSQL's server would delete or make unreadable. The server's packages stay while there
is any."""

from __future__ import annotations

from collections.abc import Iterable

from nqrust.host.port import Host
from nqrust.installer.verbs import cluster_data


def of_others(host: Host, patterns: Iterable[str]) -> list[str]:
    """Return matching data folders that hold data of users."""
    folders = {path.rpartition("/")[0] for pattern in patterns for path in host.glob(f"{pattern}/PG_VERSION")}
    return sorted(folder for folder in folders if cluster_data.is_used(host, folder))
