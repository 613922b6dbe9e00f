"""PostgreSQL clusters, from their configuration and lock files. Servers on a port are not queried.

Debian keeps configuration in /etc/postgresql/VERSION/NAME (postgresql-common), Red Hat in the data directory.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace

from nqrust.host import mounts
from nqrust.host.errors import HostError
from nqrust.host.facts.model import PostgresCluster
from nqrust.host.facts.reading import names, text
from nqrust.host.port import Host, Kind
from nqrust.host.way import way

_SETTING = re.compile(r"^\s*([A-Za-z_][\w.]*)\s*(?:=\s*|\s)('(?:[^']|'')*'|[^\s#']+)", re.ASCII)
_VERSION = re.compile(r"(\d+)(?:\.\d+)?", re.ASCII)

REDHAT = "/var/lib/pgsql/data"
"""The data folder of Red Hat's cluster, if nobody changed it."""
_REDHAT_HOME = "/var/lib/pgsql"
_UNITS = ("/etc/systemd/system/postgresql.service", "/etc/systemd/system/postgresql.service.d/*.conf")
_PGDATA = re.compile(r"(?m)^\s*Environment\s*=(?:.*[\s\"'])?PGDATA=(/[^\s\"']*)")
_INCLUDE_DEPTH = 10  # as deep as PostgreSQL follows (src/include/utils/conffiles.h)
_INCLUDED = 200  # files of one cluster; its owner could have more read than anybody waits for


def probe(host: Host) -> tuple[PostgresCluster, ...]:
    """Return all clusters that have data or a configuration. The version is 0 if only its missing data would tell it."""
    clusters = [*_debian(host), *_redhat(host)]
    return tuple(sorted(clusters, key=lambda cluster: (cluster.version, cluster.name)))


def of_configuration(host: Host, path: str) -> PostgresCluster | None:
    """Return the cluster of a file …/VERSION/NAME/postgresql.conf of Debian. None if the version is not a number."""
    version, name = path.split("/")[-3:-1]
    number = _VERSION.fullmatch(version)
    place = f"/var/lib/postgresql/{version}/{name}"
    return _cluster(host, int(number[1]), name, path.rpartition("/")[0], place) if number else None


def redhat_folder(host: Host) -> str:
    """Return the folder in which Red Hat's service runs PostgreSQL: PGDATA of its unit, if the administrator changed it."""
    paths = [path for pattern in _UNITS for path in host.glob(pattern)] if host.exists(_REDHAT_HOME) else []
    found = [folder.rstrip("/") for path in paths for folder in _PGDATA.findall(text(host, path))]
    return found[-1] if found and found[-1] else REDHAT


def _debian(host: Host) -> Iterator[PostgresCluster]:
    found = (of_configuration(host, path) for path in host.glob("/etc/postgresql/*/*/postgresql.conf"))
    return (cluster for cluster in found if cluster is not None)


def _redhat(host: Host) -> Iterator[PostgresCluster]:
    main = redhat_folder(host)
    found = (path.rpartition("/")[0] for path in host.glob("/var/lib/pgsql/*/data/PG_VERSION"))
    for folder in dict.fromkeys((main, REDHAT, *found)):
        place = REDHAT if folder == main else "" if folder == REDHAT else folder
        cluster = _cluster(host, 0, "data", folder, place)
        version = re.match(r"\d{1,3}", text(host, f"{cluster.data_dir}/PG_VERSION"), re.ASCII)
        away = folder == main and mounts.unmounted(text(host, mounts.FSTAB), text(host, mounts.MOUNTINFO), folder)
        if version or away or cluster.data_dir != REDHAT:
            yield replace(cluster, version=int(version.group()) if version else 0)


def parse_conf(content: str) -> dict[str, str]:
    """postgresql.conf: the last assignment of a name counts; quotes are SQL's."""
    return dict(_assignments(content))


def _assignments(content: str) -> Iterator[tuple[str, str]]:
    for line in content.splitlines():
        found = _SETTING.match(line)
        if found:
            name, value = found.group(1).lower(), found.group(2)
            yield name, value[1:-1].replace("''", "'") if value.startswith("'") else value


def _settings(host: Host, conf: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield name, value, and the files that led to it, in the order of PostgreSQL: an included file stands in its line."""
    left = iter(range(_INCLUDED))

    def read(files: tuple[str, ...]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        if len(files) > _INCLUDE_DEPTH or next(left, None) is None:
            return
        for name, value in _assignments(text(host, files[-1])):
            other = posixpath.join(posixpath.dirname(files[-1]), value)
            if name in ("include", "include_if_exists"):
                yield from read((*files, other))
            elif name == "include_dir":
                for file in sorted(names(host, other)):
                    if file.endswith(".conf") and not file.startswith("."):
                        yield from read((*files, f"{other}/{file}"))
            else:
                yield name, value, files

    return read((conf,))


def parse_postmaster_pid(content: str) -> tuple[int, str]:
    """PID and socket directory in postmaster.pid (lines 1 and 5; src/include/utils/pidfile.h). (0, "") when empty."""
    lines = content.split("\n")
    pid = lines[0].strip().lstrip("-")
    return (int(pid) if re.fullmatch(r"\d{1,9}", pid, re.ASCII) else 0), lines[4].strip() if len(lines) > 4 else ""


def _cluster(host: Host, version: int, name: str, folder: str, place: str) -> PostgresCluster:
    conf = f"{folder}/postgresql.conf"
    found = list(_settings(host, conf))
    values = {setting: value for setting, value, _ in found}
    decides = next((files for setting, _, files in reversed(found) if setting == "data_directory"), (conf,))
    data = _data_folder(host, values.get("data_directory", ""), folder, place)
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
        conf=conf,
        place=place,
    )


def _data_folder(host: Host, said: str, folder: str, place: str) -> str:
    """Return the data folder. Without data_directory: the configuration's (Red Hat's), what its link pgdata leads to, or the usual
    one, which pg_createcluster(1) had not written down yet. The configuration's folder, without data, if none can be told."""
    if said or host.exists(f"{folder}/PG_VERSION"):
        return (said.rstrip("/") or "/") if said.startswith("/") else folder
    try:
        link = host.readlink(f"{folder}/pgdata").rstrip("/")
    except HostError:
        link = place if host.exists(f"{place}/PG_VERSION") else ""
    return link if link.startswith("/") else folder


def _owner(host: Host, decides: tuple[str, ...], data: str) -> tuple[str, str]:
    """Return whose the data is, and why that is not the owner of the cluster. `decides`: the files that say where the data is.

    No user's configuration or link may make nqr work as another user. pg_ctlcluster(1) and the server ask for the same owners.
    """
    if not host.glob(f"{data}/"):
        return "", ""
    parts = list(way(host, data))
    end, found = parts[-1]
    if found.uid == 0:
        return found.owner, f"its data folder {end} belongs to root, as no server allows"
    says = [(part, stat) for part, stat in parts if stat.kind is Kind.symlink]
    says += [(conf, said) for conf in decides if (said := host.stat(conf)) is not None]
    for part, stat in says:
        if stat.uid not in (0, found.uid):
            return found.owner, f"{part} belongs to {stat.owner}, and its data folder {end} to {found.owner}"
    return found.owner, ""
