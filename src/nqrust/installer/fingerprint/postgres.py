"""PostgreSQL: clusters, and the roles and databases of running ones. Configuration (pg_hba.conf) counts as files."""

from __future__ import annotations

from nqrust.host.errors import HostError
from nqrust.host.facts import postgres as postgres_facts
from nqrust.host.port import Host, command
from nqrust.installer.fingerprint.model import Section
from nqrust.installer.verbs.postgres.sql import owners

_ROLES = (
    "SELECT 'role', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, "
    "rolbypassrls, rolconnlimit, coalesce(rolvaliduntil::text, '') FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 2"
)
_DATABASES = (
    "SELECT 'database', datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datallowconn, datistemplate, "
    "CASE WHEN datacl @> acldefault('d', datdba) AND datacl <@ acldefault('d', datdba) THEN '' "
    "ELSE coalesce(array_to_string(datacl, ' '), '') END FROM pg_database ORDER BY 2"
)
"""Rights that were taken and given back are the default again, which PostgreSQL then writes out."""
_MEMBERS = (
    "SELECT 'member', pg_get_userbyid(roleid) || ' of ' || pg_get_userbyid(member), admin_option "
    "FROM pg_auth_members WHERE pg_get_userbyid(roleid) !~ '^pg_' ORDER BY 2"
)


def take(host: Host, unread: list[str]) -> Section:
    found: Section = {}
    for cluster in postgres_facts.probe(host):
        name = f"{cluster.version}/{cluster.name}"
        found[f"cluster {name}"] = [cluster.port, cluster.online, cluster.owner, cluster.data_dir]
        if not cluster.online:
            continue
        if cluster.doubt:
            unread.append(f"PostgreSQL {name}: {cluster.doubt}")
            continue
        try:
            done = host.run(
                command(
                    "psql",
                    "-X",
                    "-A",
                    "-t",
                    "-F",
                    "\t",
                    "-h",
                    cluster.socket_dir,
                    "-p",
                    str(cluster.port),
                    "-d",
                    "postgres",
                    "-c",
                    _ROLES,
                    "-c",
                    _DATABASES,
                    "-c",
                    _MEMBERS,
                    env=owners(cluster.owner or "postgres"),
                    user=cluster.owner or "postgres",
                    timeout=30,
                )
            )
        except HostError as error:
            unread.append(f"PostgreSQL {name}: {error}")
            continue
        found.update({f"{kind} {name} {key}": value for (kind, key), value in parse_rows(done.stdout).items()})
    return found


def parse_rows(content: str) -> dict[tuple[str, str], list[str]]:
    """Parse psql's unaligned output: (role|database|member, name) -> the columns that follow."""
    rows = (line.split("\t") for line in content.splitlines())
    return {(row[0], row[1]): row[2:] for row in rows if len(row) >= 2}
