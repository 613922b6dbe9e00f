"""A PostgreSQL database in UTF-8, owned by nqr's role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.errors import CommandFailed
from nqrust.host.facts.model import PostgresCluster
from nqrust.host.port import Host
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
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.verbs.postgres.cluster import ClusterChoice
from nqrust.installer.verbs.postgres.sql import as_owner, cluster_arguments, identifier, literal
from nqrust.installer.verbs.postgres.undo import RIGHTS, undo_access, undo_database

MIGRATED_BY = frozenset(("alembic_version", "_sqlx_migrations"))
"""Tables in which the tools of releases record migrations: a database with one was nqr's before."""


@dataclass(frozen=True)
class Database:
    """A database. The step adopts an existing one of the role; a foreign owner is a conflict. It creates `extensions` in it.
    `first`: nqr has not used it here, so tables in it belong to another program, also a conflict. `closed`: other roles may not
    connect to it. They could hold the advisory locks that the manager needs: those of a database are for all of its sessions.
    `own`: an earlier run created it. Other roles get back what they could do in a database that nqr adopted."""

    kind: ClassVar[str] = "pg-database"

    cluster: ClusterChoice
    name: str
    owner: str
    extensions: tuple[str, ...] = ()
    first: bool = False
    closed: bool = False
    own: bool = False

    @property
    def id(self) -> str:
        return f"pg-database:{self.name}"

    def describe(self) -> str:
        return f"create PostgreSQL database {self.name} for {self.owner}"

    def inspect(self, host: Host) -> Inspection:
        cluster = self.cluster.online(host)
        found = self._owner_and_encoding(host, cluster) if cluster is not None else None
        if cluster is None or found is None:
            return Needed((f"+ PostgreSQL database {self.name} (owner {self.owner}, UTF8)", *self._extension_lines()))
        owner, encoding = found
        if owner != self.owner:
            return Conflict(
                "NQR-DB-104",
                f"PostgreSQL has a database {self.name} already, which belongs to {owner}.",
                "Choose another name with --db-name, or give that database to this role (ALTER DATABASE … OWNER TO).",
            )
        if encoding != "UTF8":
            return Conflict(
                "NQR-DB-105",
                f"The database {self.name} is there already, in {encoding} instead of UTF8.",
                "Choose another name with --db-name.",
            )
        if self.first and (others := self._tables_of_others(host, cluster)):
            return Conflict(
                "NQR-DB-108",
                f"The database {self.name} is there already and holds tables of another program ({', '.join(others[:3])}).",
                "Choose another name with --db-name.",
            )
        diff = self._lacks(host, cluster)
        return Needed(tuple(diff)) if diff else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        cluster = self.cluster.require(host)
        if cluster.online and self._owner_and_encoding(host, cluster) is not None:
            taken = self._taken(host, cluster)  # grants and extensions go with the foreign database
            kept_closed = Retain.database if self.own else Retain.nothing
            back = undo_access(cluster_arguments(cluster), self.name, taken, kept_closed)
            return Prepared(Origin.modified, (back,) if taken else ())
        return Prepared(Origin.created, (undo_database(cluster_arguments(cluster), self.name),))

    def apply(self, host: Host) -> None:
        cluster = self.cluster.require(host)
        name, owner = identifier(self.name), identifier(self.owner)
        if self._owner_and_encoding(host, cluster) is None:
            # A cluster created in another locale cannot hold UTF8 in that locale.
            utf8 = as_owner(host, cluster, "SHOW server_encoding;") == "UTF8"
            locale = "" if utf8 else " LC_COLLATE 'C' LC_CTYPE 'C'"
            as_owner(
                host,
                cluster,
                f"CREATE DATABASE {name} OWNER {owner} ENCODING 'UTF8'{locale} TEMPLATE template0;",
            )
        lines = [
            f"GRANT ALL PRIVILEGES ON DATABASE {name} TO {owner};",
            f"GRANT ALL ON SCHEMA public TO {owner};",
            # The default from PostgreSQL 15 on. An operator that another role creates there could run with the owner's rights.
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC;",
        ]
        if self.closed:
            lines.append(f"REVOKE CONNECT, TEMPORARY ON DATABASE {name} FROM PUBLIC;")
        lines += [f"CREATE EXTENSION IF NOT EXISTS {identifier(extension)} SCHEMA public;" for extension in self.extensions]
        try:
            as_owner(host, cluster, "\n".join(lines), self.name)
        except CommandFailed as error:
            if "extension" not in error.stderr:
                raise
            raise StepFailed(
                "NQR-DB-106",
                f"An extension that the release needs ({', '.join(self.extensions)}) is not on this host.",
                "Install the distribution's postgresql-contrib package, then run the same command again.",
            ) from error

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    # ---
    def _owner_and_encoding(self, host: Host, cluster: PostgresCluster) -> tuple[str, str] | None:
        out = as_owner(
            host,
            cluster,
            "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding) FROM pg_database"
            f" WHERE datname = {literal(self.name)};",
        )
        if not out:
            return None
        owner, _, encoding = out.splitlines()[0].rpartition("|")
        return owner, encoding

    def _tables_of_others(self, host: Host, cluster: PostgresCluster) -> list[str]:
        """Return tables in a database without any release's migrations, except those of extensions."""
        tables = as_owner(
            host,
            cluster,
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace NOT IN ('pg_catalog'::regnamespace,"
            " 'information_schema'::regnamespace) AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND"
            " deptype = 'e') ORDER BY relname;",
            self.name,
        ).splitlines()
        return [] if MIGRATED_BY & set(tables) else tables

    def _lacks(self, host: Host, cluster: PostgresCluster) -> list[str]:
        owner = literal(self.owner)
        closed = " AND NOT has_database_privilege('public', current_database(), 'CONNECT, TEMPORARY')" if self.closed else ""
        out = as_owner(
            host,
            cluster,
            f"SELECT has_schema_privilege({owner}, 'public', 'CREATE') AND has_schema_privilege({owner}, 'public',"
            f" 'USAGE') AND has_database_privilege({owner}, current_database(), 'CREATE, CONNECT, TEMPORARY')"
            f" AND NOT has_schema_privilege('public', 'public', 'CREATE'){closed};\n"
            "SELECT extname FROM pg_extension;",
            self.name,
        ).splitlines()
        lines = [] if out[:1] == ["t"] else [f"rights in {self.name}: all for {self.owner}, and fewer for other roles"]
        return lines + [f"+ extension {name} in {self.name}" for name in self.extensions if name not in out[1:]]

    def _taken(self, host: Host, cluster: PostgresCluster) -> list[str]:
        """Return what `apply` takes from all roles in a database that exists."""
        out = as_owner(
            host,
            cluster,
            "SELECT has_database_privilege('public', current_database(), 'CONNECT'),"
            " has_database_privilege('public', current_database(), 'TEMPORARY'),"
            " has_schema_privilege('public', 'public', 'CREATE');",
            self.name,
        )
        held = [right for right, answer in zip(RIGHTS, out.split("|"), strict=True) if answer == "t"]
        return [right for right in held if self.closed or right == "CREATE"]

    def _extension_lines(self) -> tuple[str, ...]:
        return tuple(f"+ extension {name} in {self.name}" for name in self.extensions)
