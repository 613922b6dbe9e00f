"""Verbs for PostgreSQL roles and databases. They reach a running cluster as its owner through its socket (psql(1)). A cluster
may be stopped, as after an uninstall that kept the database on a machine without an init system. For that, the cluster's own
program runs the statement without a server (postgres(1), --single), so nothing needs a start or stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nqrust.host.errors import CommandFailed
from nqrust.host.facts import postgres as facts
from nqrust.host.facts.model import PostgresCluster
from nqrust.host.port import Host, command
from nqrust.installer.engine.undo_record import Retain, Undo
from nqrust.installer.engine.verb import Kept, Outcome, Partly, Reverted, UndoContext
from nqrust.installer.verbs import cluster_data
from nqrust.installer.verbs.file import undo as file
from nqrust.installer.verbs.postgres.sql import OWNERS

DROP_DATABASE = "DROP DATABASE IF EXISTS {} WITH (FORCE);"
DROP_ROLE = "DROP ROLE IF EXISTS {};"

RIGHTS: Mapping[str, str] = {
    "CONNECT": "GRANT CONNECT ON DATABASE {} TO PUBLIC;",
    "TEMPORARY": "GRANT TEMPORARY ON DATABASE {} TO PUBLIC;",
    # Some owners drop the schema.
    "CREATE": "DO $$ BEGIN IF EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public') THEN"
    " GRANT CREATE ON SCHEMA public TO PUBLIC; END IF; END $$;",
}
"""Rights that nqr takes from all roles in its database, and the statements that give them back (PostgreSQL, GRANT)."""

_GONE = Reverted("PostgreSQL is gone already, and with it what it held")
_DROPPED = Reverted("the database is gone already, or takes no connections")
RELOAD = "SELECT pg_reload_conf();"
CONNECTABLE = "SELECT datname FROM pg_database WHERE datallowconn;"
OPTIONS = f"{OWNERS['PGOPTIONS']} -c role=none -c statement_timeout=0 -c lock_timeout=0 -c default_transaction_read_only=off"
"""For libpq. The owner of a database sets the defaults of each session there, and could make an uninstall fail."""
NO_DATABASE = "3D000"  # invalid_catalog_name (the same page)
DEPENDENT = "2BP01"  # dependent_objects_still_exist (PostgreSQL, Error Codes); texts are translated, codes are not
_SECONDS = 600.0  # after a crash the cluster recovers first


def undo_role(cluster: dict[str, Any], name: str) -> Undo:
    """Drop a PostgreSQL role. `cluster`: {"user": "postgres", "port": 5432, "socket_dir": ..., "data_dir": ...}, and
    "place", its usual data folder, if that is another."""
    return Undo("role", {"cluster": cluster, "name": name}, Retain.database)


def undo_database(cluster: dict[str, Any], name: str) -> Undo:
    """Drop a PostgreSQL database, after its sessions."""
    return Undo("database", {"cluster": cluster, "name": name}, Retain.database)


def undo_access(cluster: dict[str, Any], name: str, rights: Sequence[str], retain: Retain = Retain.nothing) -> Undo:
    """Give all roles back what they could do in a PostgreSQL database. `rights`: of RIGHTS."""
    return Undo("database_access", {"cluster": cluster, "name": name, "rights": list(rights)}, retain)


def undo_rules(cluster: dict[str, Any], path: str, marker: str, *, prior: str = "") -> Undo:
    """Restore the previous text of nqr's marked block in pg_hba.conf ("" if there was none). A running server then follows it."""
    args = {"cluster": cluster, "path": path, "marker": marker, "prior": prior}
    return Undo("sign_in_rules", args, Retain.database)


def quote(identifier: str) -> str:
    """Return a quoted SQL identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def database(context: UndoContext, args: dict[str, Any]) -> Outcome:
    return _run(context.host, args, f"database {args['name']}", DROP_DATABASE.format(quote(str(args["name"]))))


def role(context: UndoContext, args: dict[str, Any]) -> Outcome:
    try:
        return _run(context.host, args, f"role {args['name']}", DROP_ROLE.format(quote(str(args["name"]))))
    except CommandFailed as error:
        if DEPENDENT in error.stderr:
            return Kept(role_stays(args))
        raise


def access(context: UndoContext, args: dict[str, Any]) -> Outcome:
    name = str(args["name"])
    try:
        return _run(context.host, args, f"database {name}, closed to other roles,", give_back(args), name)
    except CommandFailed as error:
        if NO_DATABASE in error.stderr:
            return _DROPPED
        raise


def rules(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """A server that does not run reads the file when it starts."""
    outcome = file.block_text(context, args)
    cluster = find(context.host, args["cluster"])
    if cluster is not None and cluster.online:
        _reload(context.host, args, cluster)
    return outcome


def give_back(args: dict[str, Any]) -> str:
    """Return the statements, in one line: without a server, each line is a command of its own."""
    return " ".join(RIGHTS[right].format(quote(str(args["name"]))) for right in args["rights"])


def role_stays(args: dict[str, Any]) -> str:
    """Return why a role that other databases depend on stays, and how to finish (PostgreSQL, Dropping Roles)."""
    user, name = args["cluster"]["user"], quote(str(args["name"]))
    return (
        f"role {args['name']} stays: it owns objects or has privileges in a database that is not ours; to drop it, run as {user} "
        f"REASSIGN OWNED BY {name} TO {user}; DROP OWNED BY {name}; in each such database, then DROP ROLE {name}"
    )


def find(host: Host, recorded: dict[str, Any]) -> PostgresCluster | None:
    """Return the current state of a record's cluster, or None if it is gone. Its data may have moved, or be away for now. Older
    records contain only its port."""
    if host.user(str(recorded["user"])) is None:
        return None
    clusters = facts.probe(host)
    if "data_dir" in recorded:
        data = recorded["data_dir"]
        place = recorded.get("place", data)
        found = [cluster for cluster in clusters if cluster.data_dir == data]
        found += [cluster for cluster in clusters if cluster.place == place]  # its data has moved
    else:
        found = [cluster for cluster in clusters if cluster.port == recorded["port"]]
    return next((one for one in found if host.exists(f"{one.data_dir}/PG_VERSION") or cluster_data.is_away(host, one)), None)


def server(cluster: PostgresCluster) -> tuple[str, str]:
    """Return (path of its program, path of its configuration). Debian allows several versions side by side. Elsewhere the
    program reads its configuration in the data folder, and the second is empty."""
    conf = cluster.conf or f"/etc/postgresql/{cluster.version}/{cluster.name}/postgresql.conf"
    if conf.startswith("/etc/postgresql/"):
        return f"/usr/lib/postgresql/{cluster.version}/bin/postgres", conf
    return "/usr/bin/postgres", "" if conf == f"{cluster.data_dir}/postgresql.conf" else conf


def control(cluster: PostgresCluster) -> str:
    """Return the path of pg_ctl(1)."""
    return f"{server(cluster)[0].rpartition('/')[0]}/pg_ctl"


def _reload(host: Host, args: dict[str, Any], cluster: PostgresCluster) -> None:
    """Have the server read its rules. Those that it has may not let its owner in, so a signal (SIGHUP) is the second way."""
    program = control(cluster)
    if host.which("psql") is not None:
        try:
            _run(host, args, "", RELOAD)
            return
        except CommandFailed:
            if not host.exists(program):
                raise
    if host.exists(program):
        host.run(command(program, "reload", "-s", "-D", cluster.data_dir, user=str(args["cluster"]["user"])))


def _run(host: Host, args: dict[str, Any], what: str, statement: str, database: str = "postgres") -> Outcome:
    """Run the statement in `database`. `what`: stays if PostgreSQL's programs are gone."""
    user, cluster = str(args["cluster"]["user"]), find(host, args["cluster"])
    if cluster is None:
        return _GONE
    if cluster_data.is_away(host, cluster):
        return Partly(f"{what} stays: {cluster_data.away(cluster)}")
    sql = statement.encode() + b"\n"
    program, conf = server(cluster)
    if cluster.online and host.which("psql") is not None:
        own = {**OWNERS, "PGREQUIREPEER": user}  # a socket may be in a folder for all
        options = ("-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose")
        psql = ("psql", *options, "-h", cluster.socket_dir, "-p", str(cluster.port), "-d")
        if database != "postgres":  # libpq has no code for a database that is gone
            asked = command(*psql, "postgres", input=CONNECTABLE.encode(), env=own, user=user)
            if database not in host.run(asked).stdout.splitlines():
                return _DROPPED
        host.run(command(*psql, database, input=sql, env={**own, "PGOPTIONS": OPTIONS}, user=user))
    elif not cluster.online and host.exists(program):
        settings = ("exit_on_error=on", "log_destination=stderr", "log_min_messages=fatal", "log_error_verbosity=verbose")
        given = [word for setting in (*settings, *([f"config_file={conf}"] if conf else [])) for word in ("-c", setting)]
        single = command(program, "--single", "-D", cluster.data_dir, *given, database, input=sql, user=user, timeout=_SECONDS)
        host.run(single)
    else:
        return Partly(f"{what} stays in {cluster.data_dir}. Install PostgreSQL {cluster.version} again, then uninstall again")
    return Reverted()
