"""Checks of other machines before any change: the remote database and the manager to join."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import quote

from nqrust import loopback
from nqrust.contract.credentials import hash_token
from nqrust.contract.text import plain
from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.host.secret import Secret
from nqrust.installer.preflight.findings import Finding, error, warning
from nqrust.installer.preflight.remote_manager import NotProven, RemoteManager
from nqrust.installer.settings.model import Settings
from nqrust.tls import pinning

if TYPE_CHECKING:
    import psycopg

MIN_POSTGRES = 130000


class Joined(Enum):
    """Whether this host's agent has joined the manager in the settings."""

    no = "no"
    yes = "yes"
    elsewhere = "elsewhere"  # another manager


def remote_database(
    settings: Settings,
    password: Secret | None,
    role_attributes: tuple[str, ...] = (),
    cli_token: Secret | None = None,
    ca: str = "",
) -> Iterator[Finding]:
    """Connect, and check version and rights. Creates nothing. `cli_token`: given if the installation has used another
    database until now. This one must have the same data, including that token. `ca`: file with the authority that the server's
    certificate must come from, or ""."""
    db = settings.database
    if not settings.has_remote_database:
        return
    if not ca and not loopback.is_local(db.host):
        yield warning(
            "NQR-DB-261",
            f"Nobody checks who answers as PostgreSQL on {db.host}:{db.port}. A program in the network between can get the password.",
            "Add --db-ca FILE with the certificate authority (PEM) of that server.",
        )
    if password is None or not password:
        yield error(
            "NQR-DB-010",
            f"No password was given for the remote database {db.name} on {db.host}.",
            "Pass --db-password-file FILE, or set DB_PASSWORD.",
        )
        return
    import psycopg

    if loopback.is_local(db.host) and (user := loopback.person_at(db.host, db.port)) is not None:
        yield error(
            "NQR-DB-250",
            f"A program of user {user} listens on {db.host}:{db.port}, so it got no password: any user may listen there.",
            "Let root or a system user run it, such as PostgreSQL or a tunnel to it. End it if it is neither.",
        )
        return
    try:
        with psycopg.connect(
            host=db.host,
            port=db.port,
            dbname=db.name,
            user=db.user,
            password=password.reveal(),
            connect_timeout=8,
            sslmode="verify-full" if ca else None,
            sslrootcert=ca or None,
            application_name="nqr-preflight",
        ) as connection:
            yield from _rights(settings, connection, role_attributes)
            if cli_token is not None and not _is_ours(connection, cli_token):
                yield error(
                    "NQR-PRE-062",
                    f"The database {db.name} on {db.host}:{db.port} does not hold this installation's data, so the VMs would be"
                    " lost.",
                    "Stop the manager and copy the old database there with pg_dump and pg_restore, then try again. Or keep the"
                    " old settings.",
                )
    except psycopg.OperationalError as failure:
        yield _not_proven(settings, ca, str(failure)) or _refusal(settings, str(failure))


def _is_ours(connection: psycopg.Connection[tuple[object, ...]], cli_token: Secret) -> bool:
    """Return whether the database has this installation's token; False without such a table or the right to read it."""
    import psycopg

    query = "SELECT 1 FROM public.tokens WHERE sha256 = %s"
    try:
        return connection.execute(query, (hash_token(cli_token.reveal()),)).fetchone() is not None
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InsufficientPrivilege):
        return False


def knows(host: Host, base: str, agent_token: Secret) -> bool:
    """Return whether the manager at `base` accepts an agent's token. True if it does not answer, which another check reports."""
    try:
        status, _ = RemoteManager(host, base).ask("/v1/hosts/join-check", agent_token)
    except NotProven:
        return False
    except HostError:
        return True
    return status not in (401, 403)


def _not_proven(settings: Settings, ca: str, text: str) -> Finding | None:
    """Return what libpq said of the server's certificate, if it refused that; None for any other failure."""
    at = f"{settings.database.host}:{settings.database.port}"
    if not ca:
        return None
    if "does not support SSL" in text:
        return error(
            "NQR-DB-262",
            f"PostgreSQL on {at} offers no TLS, so it got no password.",
            "Set `ssl = on` with a certificate in its postgresql.conf, and restart it.",
        )
    if "does not match host name" in text or "could not get server's host name" in text:
        return error(
            "NQR-DB-262",
            f"The certificate of PostgreSQL on {at} is for another name, so it got no password.",
            "Pass --db-host a name that is in the certificate.",
        )
    if "certificate verify failed" in text or "root certificate file" in text:
        return error(
            "NQR-DB-262",
            f"PostgreSQL on {at} shows no valid certificate of {ca}, so it got no password.",
            "Pass --db-ca the authority that signed its certificate. If it did, find out which machine answers there.",
        )
    return None


def _refusal(settings: Settings, text: str) -> Finding:
    db = settings.database
    if "password authentication failed" in text or "no password supplied" in text:
        return error(
            "NQR-DB-011",
            f"The database on {db.host}:{db.port} refuses the password of role {db.user}.",
            "Pass the right one with --db-password-file FILE, or set DB_PASSWORD.",
        )
    if "does not exist" in text:
        return error(
            "NQR-DB-012",
            f"There is no database {db.name} on {db.host}:{db.port}.",
            f"Create it: CREATE DATABASE {db.name} OWNER {db.user};",
        )
    if "pg_hba.conf" in text:
        return error(
            "NQR-DB-013",
            f"The database on {db.host}:{db.port} does not let role {db.user} in from this host.",
            "Add a line for this host to its pg_hba.conf and reload it.",
        )
    return error(
        "NQR-DB-014",
        f"No PostgreSQL answers on {db.host}:{db.port}.",
        "Check --db-host and --db-port, that it listens on that address, and the firewalls between.",
    )


def _rights(
    settings: Settings, connection: psycopg.Connection[tuple[object, ...]], attributes: tuple[str, ...]
) -> Iterator[Finding]:
    db = settings.database
    if connection.info.server_version < MIN_POSTGRES:
        yield error(
            "NQR-DB-015",
            f"PostgreSQL {connection.info.server_version // 10000} on {db.host} is too old; 13 or newer is needed.",
            "Use a newer server.",
        )
    row = connection.execute(
        "SELECT has_schema_privilege('public', 'CREATE'), rolcreaterole FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    if row is None or not row[0]:
        yield error(
            "NQR-DB-016",
            f"Role {db.user} may not create tables in schema public of {db.name}.",
            f"Grant it: GRANT ALL ON SCHEMA public TO {db.user};",
        )
    if row is not None and "CREATEROLE" in attributes and not row[1]:
        yield error(
            "NQR-DB-016",
            f"This release needs role {db.user} to have CREATEROLE.",
            f"Grant it: ALTER ROLE {db.user} CREATEROLE;",
        )


def manager_answers(settings: Settings, host: Host) -> Iterator[Finding]:
    """Check in agent mode that upstream's manager answers. It knows no tokens and no TLS."""
    if settings.has_manager:
        return
    base = settings.agent.manager_base
    try:
        status, _ = host.http_get(f"{base.rstrip('/')}/health", timeout=5.0)
        why = "" if status == 200 else f"HTTP {status}"
    except HostError as failure:
        why = str(failure).rstrip(".")
    if why:
        yield error(
            "NQR-PRE-024",
            f"No manager answers at {base} ({why}).",
            "Check --manager-url, that the manager runs, and the firewalls between.",
        )


def manager_to_join(
    settings: Settings, host: Host, name: str, join_token: Secret | None, joined: Joined, vms: tuple[str, ...] = ()
) -> Iterator[Finding]:
    """Check in agent mode that the manager answers, and accepts the join token of a new agent under this host's `name`."""
    if settings.has_manager:
        return
    base = settings.agent.manager_base
    try:
        status, body, over_tls = RemoteManager(host, base).health()
        healthy = status == 200 and json.loads(body).get("status") == "ok"
    except (HostError, ValueError, AttributeError):
        status, healthy, over_tls = 0, False, False
    if not healthy:
        yield error(
            "NQR-PRE-024",
            f"No manager answers at {base}" + (f" (HTTP {status})." if status else "."),
            "Check --manager-url, that the manager runs, and the firewalls between.",
        )
        return
    if joined is Joined.yes:
        return
    if joined is Joined.elsewhere and vms:
        yield error(
            "NQR-PRE-064",
            f"The manager at {base} does not know this agent, whose host has {len(vms)} VM{'s' if len(vms) > 1 else ''} of"
            " another manager.",
            "Delete these VMs with the manager that knows them (nqr vm rm NAME), or keep the old --manager-url.",
        )
        return
    if join_token is None or not join_token:
        yield error(
            "NQR-PRE-025",
            "Agent mode needs a join token.",
            f"Run `nqr host token {name}` on the manager's host and pass the file with --join-token-file.",
        )
        return
    if over_tls and not pinning.split(join_token.reveal())[1]:
        yield error(
            "NQR-PRE-025",
            "The join token names no certificate authority, so it is incomplete.",
            f"Run `nqr host token {name}` on the manager's host and copy all of the token.",
        )
        return
    try:
        status, body = RemoteManager(host, base).ask(f"/v1/hosts/join-check?name={quote(name, safe='')}", join_token)
    except NotProven:
        yield error(
            "NQR-PRE-027",
            f"The program at {base} is not the manager that made this join token.",
            "Check --manager-url. If it is right, another machine answers there: find out which before you go on.",
        )
        return
    except HostError:
        yield error(
            "NQR-PRE-024",
            f"The manager at {base} answered once, then stopped answering.",
            "Check --manager-url, that the manager runs, and the firewalls between.",
        )
        return
    if status in (401, 403, 409):
        reason = _detail(body) or "it is wrong, used or expired."
        yield error(
            "NQR-PRE-025",
            f"The manager refuses the join token: {reason}",
            f"Run `nqr host token {name}` on the manager's host. Add --replace if the manager has a host of that name.",
        )


def _detail(body: bytes) -> str:
    """Return the sentence of a problem document (RFC 9457), "" for anything else."""
    try:
        return plain(str(json.loads(body).get("detail") or ""))[:200]
    except (ValueError, AttributeError):
        return ""
