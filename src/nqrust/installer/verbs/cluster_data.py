"""Data of users in a PostgreSQL cluster: nqr never removes a cluster with such data, whoever created the cluster.

nqr drops its own database before it removes a cluster or a server, so any remaining data belongs to others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nqrust.host import mounts
from nqrust.host.errors import HostError
from nqrust.host.facts import postgres
from nqrust.host.facts.model import PostgresCluster
from nqrust.host.facts.reading import text
from nqrust.host.port import Host, Kind

HOLDS = "holds data that nqr did not create. Move or drop it, then"
_FIRST_OF_USERS = 16384
"""First object number of users (PostgreSQL, src/include/access/transam.h: FirstNormalObjectId)."""

FUNCTIONS = (
    r"""newline='
'
used_cluster() { # data folder of PostgreSQL: whether it holds databases, tables or tablespaces of users
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
    r"""settings_of() { # file of PostgreSQL's configuration: the settings that tell where data and more files are, with their values
    folder=${1%/*} awk '
        BEGIN { quote = sprintf("%c", 39) }
        match($0, /^[ \t]*[A-Za-z_]+/) {
            name = tolower(substr($0, 1, RLENGTH))
            sub(/^[ \t]+/, "", name)
            if (name !~ /^(data_directory|include|include_if_exists|include_dir)$/) next
            rest = substr($0, RLENGTH + 1)
            if (!sub(/^[ \t]*=[ \t]*/, "", rest) && !sub(/^[ \t]+/, "", rest)) next
            value = ""
            if (substr(rest, 1, 1) == quote) {
                rest = substr(rest, 2)
                while ((at = index(rest, quote)) > 0) {
                    value = value substr(rest, 1, at - 1)
                    rest = substr(rest, at + 1)
                    if (substr(rest, 1, 1) != quote) break
                    value = value quote
                    rest = substr(rest, 2)
                }
            } else {
                value = rest
                sub(/[ \t\r#].*/, "", value)
            }
            if (name != "data_directory" && value !~ /^\//) value = ENVIRON["folder"] "/" value
            print name " " value
        }' <"$1"
}
redhat_folder() { # the folder in which the service of Red Hat runs PostgreSQL
    found=''
    if [ -d /var/lib/pgsql ]; then
        for unit in /etc/systemd/system/postgresql.service /etc/systemd/system/postgresql.service.d/*.conf; do
            [ -f "$unit" ] || continue
            last=$(sed -n 's/^[[:space:]]*Environment[[:space:]]*=\(.*[[:space:]"'\'']\)\{0,1\}PGDATA=\(\/[^[:space:]"'\'']*\).*/\2/p' "$unit" | tail -n 1)
            [ -z "$last" ] || found=${last%/}
        done
    fi
    printf '%s\n' "${found:-/var/lib/pgsql/data}"
}
cluster_of() { # postgresql.conf of Debian, or '' for the cluster of Red Hat's service: leaves $conf, $place, its usual data folder, and $data, the one that it has
    conf=${1:-$(redhat_folder)/postgresql.conf}
    folder=${conf%/*}
    place=/var/lib/pgsql/data
    if [ -n "$1" ]; then
        place=${folder%/*}
        place=/var/lib/postgresql/${place##*/}/${folder##*/}
    fi
    data=''
    left=200 # files that are read
    ahead="include $conf"
    while [ -n "$ahead" ]; do
        line=${ahead%%"$newline"*}
        ahead=${ahead#"$line"}
        ahead=${ahead#"$newline"}
        value=${line#* }
        case $line in
            'data_directory '*) data=$value ;;
            'include_dir '*)
                lines=''
                for file in "$value"/*.conf; do lines="${lines}include $file$newline"; done
                ahead=$lines$ahead
                ;;
            include*)
                if [ -f "$value" ] && [ "$left" -gt 0 ]; then
                    left=$((left - 1))
                    ahead=$(settings_of "$value")$newline$ahead
                fi
                ;;
        esac
    done
    if [ -z "$data" ] && [ ! -e "$folder/PG_VERSION" ]; then
        data=$(readlink -- "$folder/pgdata") || [ ! -e "$place/PG_VERSION" ] || data=$place
    fi
    case $data in /*) data=${data%/} ;; *) data=$folder ;; esac
}
moved_cluster_is_used() { # data folder in a record: whether that cluster holds data of users, there or where its data has moved since
    if used_cluster "$1"; then return 0; fi
    case $1 in
        /var/lib/pgsql/data) cluster_of '' ;;
        /var/lib/postgresql/*/*) cluster_of "/etc/postgresql/${1#/var/lib/postgresql/}/postgresql.conf" ;;
        *) return 1 ;;
    esac
    used_cluster "$data"
}
away_cluster() { # $place, $data: whether the data of a cluster is not there, and may come back
    [ ! -e "$data/PG_VERSION" ] || return 1
    [ "$data" = "$place" ] && [ ! -L "$data" ] || return 0
    # A file system of fstab is not mounted.
    folder=$data/ awk '{ sub(/\/+$/, "", $2) } $1 !~ /^#/ && $2 != "" && index(ENVIRON["folder"], $2 "/") == 1 { print $2 }' /etc/fstab 2>/dev/null |
        while read -r point; do grep -qF " $point " /proc/self/mounts || echo found; done | grep -q found
}
"""
)


def is_used(host: Host, folder: str) -> bool:
    """Return whether `folder` is a cluster that holds a database, a table or a tablespace of users. Reads only folders, so it
    includes stopped clusters (PostgreSQL, Database File Layout)."""
    if not host.exists(f"{folder}/PG_VERSION"):
        return False
    databases = [name for name in _names(host, f"{folder}/base") if name.isdecimal()]
    objects = [*databases, *(file for database in databases for file in _names(host, f"{folder}/base/{database}"))]
    return any(map(_is_of_users, (*objects, *_names(host, f"{folder}/pg_tblspc"))))


def used_folder(host: Host, recorded: str) -> str:
    """Return where the cluster with this data folder in a record holds data of users: there, or where its data has moved since. "" if
    it holds none."""
    folders = [recorded, *(one.data_dir for one in postgres.probe(host) if one.place == recorded)]
    return next((folder for folder in folders if is_used(host, folder)), "")


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


def is_away(host: Host, cluster: PostgresCluster) -> bool:
    """Return whether a configured cluster's data is missing, and may come back. It may if it has another folder than usual, or if
    fstab(5) has a file system there that is not mounted. Otherwise somebody removed the data."""
    data = cluster.data_dir
    if host.exists(f"{data}/PG_VERSION"):
        return False
    stat = host.stat(data)
    is_link = stat is not None and stat.kind is Kind.symlink
    return data != cluster.place or is_link or mounts.unmounted(text(host, mounts.FSTAB), text(host, mounts.MOUNTINFO), data)


def away(cluster: PostgresCluster) -> str:
    """Return a clause for such a cluster, and one sentence with the cure."""
    return (
        f"the cluster of {cluster.conf} has no data in {cluster.data_dir} now. Mount its data or remove that cluster,"
        " then uninstall again"
    )


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
