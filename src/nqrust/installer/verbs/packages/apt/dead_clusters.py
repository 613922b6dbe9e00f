"""Clusters of Debian's PostgreSQL whose data is gone: the script that removes a server fails while their configuration is there."""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Iterable

from nqrust.host.errors import PathError
from nqrust.host.facts import postgres
from nqrust.host.port import Host
from nqrust.installer.verbs import cluster_data

_CONFIGURATIONS = "/etc/postgresql/*/*/postgresql.conf"

FUNCTIONS = r"""forget_dead_clusters() { # packages: configuration of clusters of PostgreSQL whose data is gone; a server's prerm would fail
    for conf in /etc/postgresql/*/*/postgresql.conf; do
        [ -f "$conf" ] || continue
        cluster_of "$conf"
        version=${place#/var/lib/postgresql/}
        case " $* " in *" postgresql-${version%%/*} "* | *" postgresql-common "*) ;; *) continue ;; esac
        [ -e "$data/PG_VERSION" ] || away_cluster || delete_tree "${conf%/*}"
    done
}
"""


def forget(host: Host, going: Iterable[str]) -> None:
    """Remove the configuration of such clusters of the servers among the packages `going`."""
    names = {name.partition(":")[0] for name in going}
    for file in host.glob(_CONFIGURATIONS):
        folder = posixpath.dirname(file)
        cluster = postgres.of_configuration(host, file)
        if cluster is None or not names & {f"postgresql-{folder.split('/')[-2]}", "postgresql-common"}:
            continue
        if not host.exists(f"{cluster.data_dir}/PG_VERSION") and not cluster_data.is_away(host, cluster):
            try:
                host.remove_tree(folder)
            except PathError as error:
                if error.errno != errno.ELOOP:  # its owner has put a link there; the package's script sees what becomes of it
                    raise
