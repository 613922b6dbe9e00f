"""Clusters of Debian's PostgreSQL whose data is gone: the script that removes a server fails while their configuration is there."""

from __future__ import annotations

import errno
import posixpath
import re
from collections.abc import Iterable

from nqrust.host.errors import HostError, PathError
from nqrust.host.port import Host

_CONFIGURATIONS = "/etc/postgresql/*/*/postgresql.conf"
_DATA = re.compile(r"(?m)^\s*data_directory\s*=\s*'([^']+)'")

FUNCTIONS = r"""forget_dead_clusters() { # packages: configuration of clusters of PostgreSQL whose data is gone; a server's prerm would fail
    for conf in /etc/postgresql/*/*/postgresql.conf; do
        [ -f "$conf" ] || continue
        conf=${conf%/postgresql.conf}
        version=${conf#/etc/postgresql/}
        case " $* " in *" postgresql-${version%%/*} "* | *" postgresql-common "*) ;; *) continue ;; esac
        data=$(sed -n "s/^ *data_directory *= *'\([^']*\)'.*/\1/p" "$conf/postgresql.conf" | tail -n 1)
        [ -e "${data:-/var/lib/postgresql/$version}/PG_VERSION" ] || delete_tree "$conf"
    done
}
"""


def forget(host: Host, going: Iterable[str]) -> None:
    """Remove the configuration of such clusters of the servers among the packages `going`."""
    names = {name.partition(":")[0] for name in going}
    for file in host.glob(_CONFIGURATIONS):
        folder = posixpath.dirname(file)
        version = folder.split("/")[3]
        if names & {f"postgresql-{version}", "postgresql-common"} and not host.exists(f"{_data(host, file)}/PG_VERSION"):
            try:
                host.remove_tree(folder)
            except PathError as error:
                if error.errno != errno.ELOOP:  # its owner has put a link there; the package's script sees what becomes of it
                    raise


def _data(host: Host, file: str) -> str:
    try:
        found = _DATA.findall(host.read_text(file))
    except HostError:
        found = []
    return found[-1] if found else posixpath.dirname(file).replace("/etc/", "/var/lib/", 1)
