"""PostgreSQL clusters, from their configuration and lock files. Servers on a port are not queried.

Debian keeps configuration in /etc/postgresql/VERSION/NAME (postgresql-common), Red Hat in the data directory.
"""

from __future__ import annotations

import re

from nqrust.host.errors import HostError
from nqrust.host.facts.model import PostgresCluster
from nqrust.host.facts.reading import text
from nqrust.host.port import Host, Kind
from nqrust.host.way import way

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
    decides = f"{folder}/postgresql.conf"
    values = parse_conf(text(host, decides))
    for path in host.glob(f"{folder}/{values.get('include_dir', 'conf.d')}/*.conf"):
        read = parse_conf(text(host, path))
        values.update(read)
        decides = path if "data_directory" in read else decides
    data = values.get("data_directory", folder).rstrip("/")
    values.update(parse_conf(text(host, f"{data}/postgresql.auto.conf")))  # ALTER SYSTEM comes last
    pid, socket_dir = parse_postmaster_pid(text(host, f"{data}/postmaster.pid"))
    port = values.get("port", "5432")
    directories = values.get("unix_socket_directories", "/var/run/postgresql").split(",")
    try:
        owner, doubt = _owner(host, decides, data)
    except HostError:
        owner, doubt = "", ""
    return PostgresCluster(
        version=version,
        name=name,
        port=int(port) if re.fullmatch(r"\d{1,5}", port, re.ASCII) else 5432,
        online=bool(pid) and text(host, f"/proc/{pid}/comm").strip() in ("postgres", "postmaster"),
        owner=owner,
        data_dir=data,
        socket_dir=socket_dir or directories[0].strip() or "/var/run/postgresql",
        doubt=doubt,
    )


def _owner(host: Host, conf: str, data: str) -> tuple[str, str]:
    """Return whose the data is, and why that is not the owner of the cluster. `conf`: the file that says where the data is.

    No user's configuration or link may make nqr work as another user. pg_ctlcluster(1) and the server ask for the same owners.
    """
    if not host.glob(f"{data}/"):
        return "", ""
    parts = list(way(host, data))
    end, found = parts[-1]
    if found.uid == 0:
        return found.owner, f"its data folder {end} belongs to root, as no server allows"
    says = [(part, stat) for part, stat in parts if stat.kind is Kind.symlink]
    said = host.stat(conf)
    says += [(conf, said)] if said is not None else []
    for part, stat in says:
        if stat.uid not in (0, found.uid):
            return found.owner, f"{part} belongs to {stat.owner}, and its data folder {end} to {found.owner}"
    return found.owner, ""
