"""SQL for the PostgreSQL steps: psql(1), with SQL on standard input and passwords in its environment, so that neither shows
in argv."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.facts.model import PostgresCluster
from nqrust.host.facts.ports import person_at
from nqrust.host.port import Command, Host, command
from nqrust.host.secret import Secret
from nqrust.loopback import is_local

_PSQL = ("-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1")
_DEBIANS = "/usr/lib/postgresql/*/bin/psql"
_CONNECT_SECONDS = "10"
_STARTING = ("the database system is starting up", "not yet accepting connections", "is in recovery mode")
_STARTING_SECONDS = 60.0
OWNERS: Mapping[str, str] = {"PGOPTIONS": "-c search_path=pg_catalog"}
"""Environment for each program that asks as the cluster's owner. Before PostgreSQL 15, every role may create functions and operators
in the database postgres, and the owner of a database may always. One that fits a statement better than PostgreSQL's own would run
with the rights of a superuser (PostgreSQL, Writing Functions and Type Conversion). A setting of the connection overrides those of
databases and roles."""


def owners(user: str) -> Mapping[str, str]:
    """Return the same, for a server that this user of the host runs (libpq, requirepeer). A socket may be in a folder for all."""
    return {**OWNERS, "PGREQUIREPEER": user}


def identifier(name: str) -> str:
    """Return a quoted SQL identifier. Raises ValueError for NUL, which PostgreSQL rejects."""
    if "\0" in name:
        raise ValueError("an SQL name cannot contain NUL")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a quoted SQL string with the same meaning under any standard_conforming_strings."""
    if "\0" in text:
        raise ValueError("an SQL string cannot contain NUL")
    doubled = text.replace("'", "''")
    return "E'" + doubled.replace("\\", "\\\\") + "'" if "\\" in text else f"'{doubled}'"


def cluster_arguments(cluster: PostgresCluster) -> dict[str, Any]:
    """Return the cluster in the form of undo records."""
    return {
        "user": cluster.owner or "postgres",
        "port": cluster.port,
        "socket_dir": cluster.socket_dir,
        "data_dir": cluster.data_dir,
        **({"place": cluster.place} if cluster.place not in ("", cluster.data_dir) else {}),
    }


def as_owner(host: Host, cluster: PostgresCluster, sql: str | Secret, database: str = "postgres") -> str:
    """Run SQL as the cluster's owner through its socket; return output without headers, columns separated by `|`. Names without a
    schema are PostgreSQL's own.

    Raises HostError.
    """
    if cluster.doubt:
        raise HostError(f"PostgreSQL cluster {cluster.version}/{cluster.name} is not asked: {cluster.doubt}")
    owner = cluster.owner or "postgres"
    where = ("-h", cluster.socket_dir, "-p", str(cluster.port), "-d", database)
    data = sql if isinstance(sql, Secret) else sql.encode()
    return _patiently(host, command(program(host), *_PSQL, *where, input=data, env=owners(owner), user=owner))


def program(host: Host) -> str:
    """Return psql(1) itself, of the newest version. Debian's command `psql` is a Perl program around it, pg_wrapper(1), which takes
    five times as long."""
    found = [path for path in host.glob(_DEBIANS) if path.split("/")[4].isdecimal()]
    return max(found, key=lambda path: int(path.split("/")[4]), default="psql")


def refusal_text(error: HostError) -> str:
    """Return the server's (or libpq's) message, without psql's preamble: `FATAL:  database "x" does not exist`."""
    if not isinstance(error, CommandFailed):
        return str(error).rstrip(".")
    lines = [line.strip() for line in error.stderr.splitlines() if line.strip()]
    first = (lines or [str(error)])[0]
    return (first.rpartition(" failed: ")[2] or first).rstrip(".")


def _patiently(host: Host, cmd: Command) -> str:
    """Return psql's output. Retries while the server reports that it is starting (after a crash it recovers first)."""
    end = host.monotonic() + _STARTING_SECONDS
    while True:
        try:
            return host.run(cmd).stdout.strip("\n")
        except CommandFailed as error:
            if host.monotonic() > end or not any(sign in error.stderr for sign in _STARTING):
                raise
        host.sleep(0.5)


@dataclass(frozen=True)
class Connection:
    """A login over TCP. `ca`: file with the authority that the server's certificate must come from; "": any server is believed."""

    host: str
    port: int
    database: str
    user: str
    password: Secret = field(repr=False)
    ca: str = ""

    def environment(self) -> dict[str, str | Secret]:
        """Return libpq's variables."""
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGDATABASE": self.database,
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGCONNECT_TIMEOUT": _CONNECT_SECONDS,
            **({"PGSSLMODE": "verify-full", "PGSSLROOTCERT": self.ca} if self.ca else {}),
        }

    def run(self, host: Host, sql: str) -> str:
        """Run SQL like `as_owner`, over this login. Raises HostError."""
        self.check(host)
        return _patiently(host, command(program(host), *_PSQL, input=sql.encode(), env=self.environment()))

    def check(self, host: Host) -> None:
        """Raise HostError if a person's program listens there: while PostgreSQL is away, any user of the machine may.

        libpq sends a password in clear text to a server that asks for that. From PostgreSQL 16 on it can refuse (`require_auth`).
        That does not stop a program that passes on what PostgreSQL says at another address.
        """
        if is_local(self.host) and (user := person_at(host, self.host, self.port)) is not None:
            raise HostError(f"a program of user {user} listens at {self.host}:{self.port}, and got no password")
