"""The local PostgreSQL cluster: the one of the distribution's packages, not whatever answers on port 5432."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from nqrust.contract import paths
from nqrust.host.errors import CommandFailed, CommandTimedOut, HostError
from nqrust.host.facts import postgres
from nqrust.host.facts.model import ListeningPort, PostgresCluster
from nqrust.host.port import Host, Kind, command
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import (
    Conflict,
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.engine.undo_record import Retain, Undo
from nqrust.installer.supervisor.port import Supervisor
from nqrust.installer.supervisor.spec import Hardening, ServiceSpec
from nqrust.installer.verbs import cluster_data
from nqrust.installer.verbs.file.undo import remove_contents, undo_contents, undo_directory, undo_file, undo_mode
from nqrust.installer.verbs.postgres.sql import as_owner
from nqrust.installer.verbs.service.undo import undo_unit

PROGRAM = "nqrust-postgresql"
"""Name of nqr's service for the cluster on hosts without systemd."""

REDHAT_DATA = "/var/lib/pgsql/data"
_REDHAT_LOG = "/var/lib/pgsql/initdb_postgresql.log"
_BEING_MADE = f"{paths.STATE_DIR}/initdb"
"""Exists during nqr's initdb: an interrupted initdb leaves files that are no cluster, though they may look like one."""

_START_SECONDS = 60.0


@dataclass(frozen=True)
class ClusterChoice:
    """The choice of the cluster. Each call looks at the host, because nqr plans before the packages are installed."""

    min_version: int = 13
    port: int | None = None

    def find(self, host: Host) -> PostgresCluster | None:
        return choose(postgres.probe(host), self.min_version, self.port)

    def require(self, host: Host) -> PostgresCluster:
        """Return the cluster. Raises StepFailed NQR-DB-101 if none fits."""
        found = self.find(host)
        if found is None:
            raise StepFailed(
                "NQR-DB-101",
                f"There is no PostgreSQL cluster of version {self.min_version} or later on this host.",
                "Create one (on Debian: pg_createcluster VERSION main), or use --db-type remote.",
            )
        if found.doubt:
            refused = _doubted(found)
            raise StepFailed(refused.code, refused.why, refused.cure)
        return found

    def online(self, host: Host) -> PostgresCluster | None:
        """Return the cluster if it exists and runs."""
        found = self.find(host)
        return found if found is not None and found.usable else None


def choose(clusters: Iterable[PostgresCluster], min_version: int, port: int | None) -> PostgresCluster | None:
    """Return a cluster that is new enough: the one at `port` first, then a running one, then the lowest port."""
    fit = [cluster for cluster in clusters if cluster.version >= min_version]
    order = sorted(fit, key=lambda c: (port is not None and c.port != port, not c.online, c.port, -c.version))
    return order[0] if order else None


def expected_port(clusters: Iterable[PostgresCluster], ports: Iterable[ListeningPort], wanted: int, min_version: int = 13) -> int:
    """Return the chosen cluster's port, or the one for a cluster that the packages will create: the first free port from 5432
    on (pg_createcluster(1))."""
    found = choose(clusters, min_version, wanted)
    if found is not None:
        return found.port
    taken = {p.port for p in ports if p.protocol == "tcp"}
    port = 5432
    while port in taken:
        port += 1
    return port


@dataclass(frozen=True)
class PostgresClusterRunning:
    """A running cluster. The step starts it through the machine's supervisor, and leaves a running one unchanged."""

    kind: ClassVar[str] = "postgres-cluster"

    choice: ClusterChoice
    supervisor: Supervisor
    layout: str = "debian"  # Distro.postgres_layout

    @property
    def id(self) -> str:
        return "postgres-cluster"

    def describe(self) -> str:
        return "run the PostgreSQL cluster"

    def inspect(self, host: Host) -> Inspection:
        cluster = self._found(host)
        if cluster is None:
            return self._in_the_way(host) or Needed(("+ PostgreSQL cluster",))
        if cluster.doubt:
            return _doubted(cluster)
        if not cluster.online:
            return Needed((f"start PostgreSQL cluster {cluster.version}/{cluster.name}",))
        if self._is_supervised(host) and host.read_text(self._file) != self._content(cluster):
            return Needed((f"{self._file}: content differs",))
        return Satisfied(f"cluster {cluster.version}/{cluster.name} at port {cluster.port}")

    def prepare(self, host: Host) -> Prepared:
        if self.layout == "redhat" and self._found(host) is None:
            cluster, origin, made = None, Origin.created, _undo_of_initdb(host)
        else:
            cluster, origin, made = self.choice.require(host), Origin.modified, ()
        if self.supervisor.name == "systemd":
            unit_name = self._unit(cluster)
            state = self.supervisor.state(host, unit_name)
            data = REDHAT_DATA if cluster is None else _without_data(host, cluster)
            unit = undo_unit(
                self.supervisor.name,
                unit_name,
                enabled=state.enabled,
                active=state.active,
                cluster=data,
                found=cluster is not None,
            )
            return Prepared(origin, (*made, unit))
        digest = None if cluster is None else hashlib.sha256(self._content(cluster).encode()).hexdigest()
        unit = undo_unit(self.supervisor.name, PROGRAM, enabled=False, active=False)
        with_reach = Undo(unit.verb, {**unit.args, **self.supervisor.undo_arguments()}, unit.retain)
        return Prepared(origin, (*made, undo_file(self._file, ours_sha256=digest), with_reach))

    def apply(self, host: Host) -> None:
        if self.layout == "redhat" and self._found(host) is None:
            if _half_made(host):
                remove_contents(host, REDHAT_DATA)
            host.write_file(_BEING_MADE, b"", mode=0o600)
            host.run(command("postgresql-setup", "--initdb", timeout=300))
            host.remove(_BEING_MADE)
        cluster = self.choice.require(host)
        try:
            if self.supervisor.name == "systemd":
                self._start_unit(host, cluster)
            else:
                host.write_file(self._file, self._content(cluster).encode(), mode=0o644)
                self.supervisor.start(host, PROGRAM)
        except (CommandFailed, CommandTimedOut) as error:
            raise self._failed(host, cluster, str(error)) from error
        self._wait(host, cluster)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    # ---
    def _found(self, host: Host) -> PostgresCluster | None:
        return None if self.layout == "redhat" and _half_made(host) else self.choice.find(host)

    def _in_the_way(self, host: Host) -> Conflict | None:
        """Return why no cluster can be created: its folder holds foreign files, or the server is too old."""
        if self.layout != "redhat":
            return None
        if host.exists(REDHAT_DATA) and host.listdir(REDHAT_DATA) and not _half_made(host):
            return Conflict(
                "NQR-DB-109",
                f"{REDHAT_DATA} is not empty, and has no PostgreSQL cluster of version {self.choice.min_version} or later.",
                "Upgrade that cluster (postgresql-setup --upgrade) or move the folder's content away, or use --db-type remote.",
            )
        said = host.run(command("postgres", "--version")).stdout if host.which("postgres") else ""
        version = re.search(r"\(PostgreSQL\) (\d+)", said)
        if version is None or int(version[1]) >= self.choice.min_version:
            return None
        return Conflict(
            "NQR-DB-101",
            f"PostgreSQL of this host is version {version[1]}; {self.choice.min_version} or later is needed.",
            "Choose a newer one, or use --db-type remote. On RHEL 8 and 9: dnf module reset postgresql, then dnf module enable"
            " postgresql:15. Remove postgresql-server if it is installed. Then run the same command again.",
        )

    @property
    def _file(self) -> str:
        return self.supervisor.unit_path(PROGRAM)

    def _is_supervised(self, host: Host) -> bool:
        return self.supervisor.name != "systemd" and host.exists(self._file)

    def _content(self, cluster: PostgresCluster) -> str:
        return self.supervisor.render(cluster_service(cluster, self.layout))

    def _unit(self, cluster: PostgresCluster | None) -> str:
        if cluster is None or self.layout == "redhat":
            return "postgresql.service"
        return f"postgresql@{cluster.version}-{cluster.name}.service"

    def _start_unit(self, host: Host, cluster: PostgresCluster) -> None:
        unit = self._unit(cluster)
        if self.layout == "redhat":
            self.supervisor.enable(host, unit)  # Debian's start.conf and generator already do that
        self.supervisor.start(host, unit)

    def _wait(self, host: Host, cluster: PostgresCluster) -> None:
        end = host.monotonic() + _START_SECONDS
        while True:
            try:
                online = self.choice.online(host)
                if online is not None:
                    as_owner(host, online, "SELECT 1;")
                    return
                why = "it does not run"
            except HostError as error:
                why = str(error)
            if host.monotonic() > end:
                raise self._failed(host, cluster, why)
            host.sleep(0.25)

    def _failed(self, host: Host, cluster: PostgresCluster, why: str) -> StepFailed:
        log = f"/var/log/postgresql/postgresql-{cluster.version}-{cluster.name}.log"
        try:
            tail = "".join(f"\n    {line}" for line in host.read_text(log).splitlines()[-10:])
        except HostError:
            tail = ""
        return StepFailed(
            "NQR-DB-102",
            f"PostgreSQL cluster {cluster.version}/{cluster.name} does not run: {why.rstrip('.')}."
            + (f" Its last output:{tail}" if tail else ""),
            f"Read its log ({log}), fix the problem that it names, then run the same command again.",
        )


def _without_data(host: Host, cluster: PostgresCluster) -> str:
    """Return the data folder of a cluster that holds nothing of users yet, so that what it gets later keeps it running. One with
    data that was stopped is stopped again."""
    return "" if cluster_data.is_used(host, cluster.data_dir) else cluster.data_dir


def _doubted(cluster: PostgresCluster) -> Conflict:
    return Conflict(
        "NQR-DB-117",
        f"nqr does not use PostgreSQL cluster {cluster.version}/{cluster.name}: {cluster.doubt}.",
        "See that data_directory is right, and that data and configuration belong to the user that runs the server. Then run the"
        " same command again, or use --db-type remote.",
    )


def _half_made(host: Host) -> bool:
    """Return whether nqr's initdb was interrupted. False once a server ran: each leaves postmaster.opts (postgres(1))."""
    return host.exists(_BEING_MADE) and not host.exists(f"{REDHAT_DATA}/postmaster.opts")


def _undo_of_initdb(host: Host) -> tuple[Undo, ...]:
    """Return the undo of initdb's files. The package's folder stays unchanged."""
    log, data = undo_file(_REDHAT_LOG, ours_sha256=None), host.stat(REDHAT_DATA)
    mark = undo_file(_BEING_MADE, ours_sha256=None)
    if data is None:
        return mark, undo_directory(REDHAT_DATA, tree=True, retain=Retain.database), log
    contents = undo_contents(REDHAT_DATA, retain=Retain.database)
    if data.kind is not Kind.directory:  # a link to a folder elsewhere
        return mark, contents, log
    return mark, undo_mode(REDHAT_DATA, data.mode, data.owner, data.group), contents, log


def cluster_service(cluster: PostgresCluster, layout: str) -> ServiceSpec:
    """Return the cluster as a foreground program, for supervisors other than systemd (pg_ctlcluster(1), postgres(1)). SIGINT
    is PostgreSQL's fast shutdown."""
    if layout == "redhat":
        argv: tuple[str, ...] = ("/usr/bin/postgres", "-D", cluster.data_dir)
        user = cluster.owner or "postgres"
    else:
        name = (str(cluster.version), cluster.name)
        argv = (
            "/usr/bin/pg_ctlcluster",
            "--foreground",
            "--stdlog",
            "--skip-systemctl-redirect",
            *name,
            "start",
        )
        user = "root"  # pg_ctlcluster drops to the cluster's owner after it creates the socket's folder
    return ServiceSpec(
        name=PROGRAM,
        description=f"PostgreSQL cluster {cluster.version}/{cluster.name}",
        argv=argv,
        user=user,
        group=user,
        order=10,
        stop_signal="INT",
        stop_seconds=60,
        hardening=Hardening.none,
    )
