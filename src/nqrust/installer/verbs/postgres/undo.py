"""Verbs for PostgreSQL roles and databases. They reach a running cluster as its owner through its socket (psql(1)). A cluster
may be stopped, as after an uninstall that kept the database on a machine without an init system. For that, the cluster's own
program runs the statement without a server (postgres(1), --single), so nothing needs a start or stop."""

from __future__ import annotations

from typing import Any

from nqrust.host.errors import CommandFailed
from nqrust.host.facts import postgres as facts
from nqrust.host.facts.model import PostgresCluster
from nqrust.host.port import Host, command
from nqrust.installer.engine.undo_record import Retain, Undo
from nqrust.installer.engine.verb import Kept, Outcome, Partly, Reverted, UndoContext

DROP_DATABASE = "DROP DATABASE IF EXISTS {} WITH (FORCE);"
DROP_ROLE = "DROP ROLE IF EXISTS {};"

_GONE = Reverted("PostgreSQL is gone already, and with it what it held")
DEPENDENT = "2BP01"  # dependent_objects_still_exist (PostgreSQL, Error Codes); texts are translated, codes are not
_SECONDS = 600.0  # after a crash the cluster recovers first


def undo_role(cluster: dict[str, Any], name: str) -> Undo:
    """Drop a PostgreSQL role. `cluster`: {"user": "postgres", "port": 5432, "socket_dir": ..., "data_dir": ...}."""
    return Undo("role", {"cluster": cluster, "name": name}, Retain.database)


def undo_database(cluster: dict[str, Any], name: str) -> Undo:
    """Drop a PostgreSQL database, after its sessions."""
    return Undo("database", {"cluster": cluster, "name": name}, Retain.database)


def quote(identifier: str) -> str:
    """Return a quoted SQL identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def database(context: UndoContext, args: dict[str, Any]) -> Outcome:
    return _drop(context.host, args, f"database {args['name']}", DROP_DATABASE)


def role(context: UndoContext, args: dict[str, Any]) -> Outcome:
    try:
        return _drop(context.host, args, f"role {args['name']}", DROP_ROLE)
    except CommandFailed as error:
        if DEPENDENT in error.stderr:
            return Kept(role_stays(args))
        raise


def role_stays(args: dict[str, Any]) -> str:
    """Return why a role that other databases depend on stays, and how to finish (PostgreSQL, Dropping Roles)."""
    user, name = args["cluster"]["user"], quote(str(args["name"]))
    return (
        f"role {args['name']} stays: it owns objects or has privileges in a database that is not ours; to drop it, run as {user} "
        f"REASSIGN OWNED BY {name} TO {user}; DROP OWNED BY {name}; in each such database, then DROP ROLE {name}"
    )


def find(host: Host, recorded: dict[str, Any]) -> PostgresCluster | None:
    """Return the current state of a record's cluster, or None if it is gone. Older records contain only its port."""
    if host.user(str(recorded["user"])) is None:
        return None
    for cluster in facts.probe(host):
        is_it = cluster.data_dir == recorded["data_dir"] if "data_dir" in recorded else cluster.port == recorded["port"]
        if is_it and host.exists(f"{cluster.data_dir}/PG_VERSION"):
            return cluster
    return None


def server(cluster: PostgresCluster) -> tuple[str, str]:
    """Return (path of its program, path of its configuration). Debian allows several versions side by side. Elsewhere the
    program reads its configuration in the data folder, and the second is empty."""
    if cluster.data_dir.startswith("/var/lib/pgsql/"):
        return "/usr/bin/postgres", ""
    conf = f"/etc/postgresql/{cluster.version}/{cluster.name}/postgresql.conf"
    return f"/usr/lib/postgresql/{cluster.version}/bin/postgres", conf


def _drop(host: Host, args: dict[str, Any], what: str, statement: str) -> Outcome:
    user, cluster = str(args["cluster"]["user"]), find(host, args["cluster"])
    if cluster is None:
        return _GONE
    sql = statement.format(quote(str(args["name"]))).encode() + b"\n"
    program, conf = server(cluster)
    if cluster.online and host.which("psql") is not None:
        where = ("-h", cluster.socket_dir, "-p", str(cluster.port), "-d", "postgres")
        options = ("-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose")
        host.run(command("psql", *options, *where, input=sql, user=user))
    elif not cluster.online and host.exists(program):
        settings = ("exit_on_error=on", "log_destination=stderr", "log_min_messages=fatal", "log_error_verbosity=verbose")
        given = [word for setting in (*settings, *([f"config_file={conf}"] if conf else [])) for word in ("-c", setting)]
        single = command(program, "--single", "-D", cluster.data_dir, *given, "postgres", input=sql, user=user, timeout=_SECONDS)
        host.run(single)
    else:
        return Partly(f"{what} stays in {cluster.data_dir}. Install PostgreSQL {cluster.version} again, then uninstall again")
    return Reverted()
