"""Verbs for PostgreSQL roles and databases, run as the cluster's owner through its socket (psql(1))."""

from __future__ import annotations

from typing import Any

from nqrust.host.errors import CommandFailed, ProgramMissing
from nqrust.host.port import Completed, Host, command
from nqrust.installer.engine.undo.outcome import Kept, Outcome, Reverted, UndoContext


def quote(identifier: str) -> str:
    """An SQL identifier, quoted."""
    return '"' + identifier.replace('"', '""') + '"'


def _psql(host: Host, cluster: dict[str, Any], sql: str) -> Completed:
    return host.run(
        command(
            "psql",
            "-X",
            "-A",
            "-t",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            str(cluster["socket_dir"]),
            "-p",
            str(cluster["port"]),
            "-d",
            "postgres",
            input=sql.encode(),
            user=str(cluster["user"]),
        )
    )


def _gone(host: Host, cluster: dict[str, Any]) -> Reverted | None:
    """Whether the whole cluster went already (its packages were purged)."""
    if host.user(str(cluster["user"])) is None or host.which("psql") is None:
        return Reverted("PostgreSQL is gone, and with it what it held")
    return None


def database(context: UndoContext, args: dict[str, Any]) -> Outcome:
    cluster, name = args["cluster"], str(args["name"])
    if gone := _gone(context.host, cluster):
        return gone
    try:
        _psql(context.host, cluster, f"DROP DATABASE IF EXISTS {quote(name)} WITH (FORCE);")
    except ProgramMissing:
        return Reverted("PostgreSQL is gone")
    return Reverted()


def role(context: UndoContext, args: dict[str, Any]) -> Outcome:
    cluster, name = args["cluster"], str(args["name"])
    if gone := _gone(context.host, cluster):
        return gone
    try:
        _psql(context.host, cluster, f"DROP ROLE IF EXISTS {quote(name)};")
    except CommandFailed as error:
        if "cannot be dropped because some objects depend on it" in error.stderr:
            return Kept(f"role {name} owns objects that are not ours")
        raise
    return Reverted()
