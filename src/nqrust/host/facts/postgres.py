"""PostgreSQL clusters, from their configuration and lock files. Servers on a port are not queried.

Debian keeps configuration in /etc/postgresql/VERSION/NAME (postgresql-common), Red Hat in the data directory.
"""

from __future__ import annotations

import re

from nqrust.host.errors import HostError
from nqrust.host.facts.model import PostgresCluster
from nqrust.host.facts.reading import text
from nqrust.host.port import Host

_SETTING = re.compile(r"^\s*([A-Za-z_][\w.]*)\s*(?:=\s*|\s)('(?:[^']|'')*'|[^\s#']+)", re.ASCII)


def probe(host: Host) -> tuple[PostgresCluster, ...]:
    clusters = []
    for path in host.glob("/etc/postgresql/*/*/postgresql.conf"):
        version, name = path.split("/")[3:5]
        if version.isdecimal():
            clusters.append(_cluster(host, int(version), name, path.rpartition("/")[0]))
    for pattern in ("/var/lib/pgsql/data/PG_VERSION", "/var/lib/pgsql/*/data/PG_VERSION"):
        for path in host.glob(pattern):
            found = re.match(r"\d{1,3}", text(host, path), re.ASCII)
            if found:
                clusters.append(_cluster(host, int(found.group()), "data", path.rpartition("/")[0]))
    return tuple(sorted(clusters, key=lambda cluster: (cluster.version, cluster.name)))


def parse_conf(content: str) -> dict[str, str]:
    """postgresql.conf: the last assignment of a name counts; quotes are SQL's."""
    values = {}
    for line in content.splitlines():
        found = _SETTING.match(line)
        if found:
            name, value = found.group(1).lower(), found.group(2)
            values[name] = value[1:-1].replace("''", "'") if value.startswith("'") else value
    return values


def parse_postmaster_pid(content: str) -> tuple[int, str]:
    """PID and socket directory in postmaster.pid (lines 1 and 5; src/include/utils/pidfile.h). (0, "") when empty."""
    lines = content.split("\n")
    pid = lines[0].strip().lstrip("-")
    return (int(pid) if re.fullmatch(r"\d{1,9}", pid, re.ASCII) else 0), lines[4].strip() if len(lines) > 4 else ""


def _cluster(host: Host, version: int, name: str, folder: str) -> PostgresCluster:
    values = parse_conf(text(host, f"{folder}/postgresql.conf"))
    for path in host.glob(f"{folder}/{values.get('include_dir', 'conf.d')}/*.conf"):
        values.update(parse_conf(text(host, path)))
    data = values.get("data_directory", folder).rstrip("/")
    values.update(parse_conf(text(host, f"{data}/postgresql.auto.conf")))  # ALTER SYSTEM comes last
    pid, socket_dir = parse_postmaster_pid(text(host, f"{data}/postmaster.pid"))
    port = values.get("port", "5432")
    directories = values.get("unix_socket_directories", "/var/run/postgresql").split(",")
    try:
        found = host.stat(data)
    except HostError:
        found = None
    return PostgresCluster(
        version=version,
        name=name,
        port=int(port) if re.fullmatch(r"\d{1,5}", port, re.ASCII) else 5432,
        online=bool(pid) and text(host, f"/proc/{pid}/comm").strip() in ("postgres", "postmaster"),
        owner=found.owner if found else "",
        data_dir=data,
        socket_dir=socket_dir or directories[0].strip() or "/var/run/postgresql",
    )
