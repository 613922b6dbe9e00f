"""A database on another machine: looked at, never created or changed by us."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.errors import HostError, ProgramMissing
from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Conflict, Inspection, Needed, Origin, Prepared, Satisfied
from nqrust.installer.steps.pg_sql import Connection, refusal_text


@dataclass(frozen=True)
class RemoteDatabase:
    """Reachable, new enough, and with the rights that migrations need. Before psql is installed it cannot be
    asked."""

    kind: ClassVar[str] = "pg-remote"

    login: Connection
    min_version: int = 13
    extensions: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return "pg-remote"

    def describe(self) -> str:
        return f"check the database {self.login.database} at {self.login.host}:{self.login.port}"

    def inspect(self, host: Host) -> Inspection:
        try:
            return self._ask(host) or Satisfied()
        except ProgramMissing:
            return Needed((f"check {self.login.host}:{self.login.port} once psql is installed",))

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.adopted, ())

    def apply(self, host: Host) -> None:
        found = self._ask(host)
        if found is not None:
            raise StepFailed(found.code, found.why, found.cure)

    def verify(self, host: Host) -> None:
        self.apply(host)

    def _ask(self, host: Host) -> Conflict | None:
        where = f"{self.login.host}:{self.login.port}"
        try:
            out = self.login.run(
                host,
                "SHOW server_version_num;\n"
                "SELECT has_schema_privilege('public', 'CREATE');\n"
                "SELECT has_database_privilege(current_database(), 'CREATE');\n"
                "SELECT extname FROM pg_extension;",
            ).splitlines()
        except ProgramMissing:
            raise
        except HostError as error:
            return refusal(refusal_text(error), where, self.login)
        version = int(out[0]) // 10000
        if version < self.min_version:
            return Conflict(
                "NQR-DB-123",
                f"PostgreSQL at {where} is version {version}; {self.min_version} or later is needed.",
                "Use a newer server, or --db-type local.",
            )
        if out[1] != "t":
            return Conflict(
                "NQR-DB-124",
                f"The role {self.login.user} may not create tables in {self.login.database} at {where}.",
                f'Let its administrator run: GRANT ALL ON SCHEMA public TO "{self.login.user}";',
            )
        lacking = [name for name in self.extensions if name not in out[3:]]
        if lacking and out[2] != "t":
            return Conflict(
                "NQR-DB-125",
                f"The database {self.login.database} at {where} lacks the extension {', '.join(lacking)}.",
                f"Let its administrator run: CREATE EXTENSION {lacking[0]};",
            )
        return None


def refusal(said: str, where: str, login: Connection) -> Conflict:
    """What the server's answer means."""
    if "password authentication failed" in said or "no password supplied" in said:
        return Conflict(
            "NQR-DB-121",
            f"PostgreSQL at {where} does not accept the password of {login.user}.",
            "Give the right one with --db-password-file or DB_PASSWORD.",
        )
    if "does not exist" in said:
        return Conflict(
            "NQR-DB-122",
            f"PostgreSQL at {where} says: {said}.",
            f'Let its administrator create it (CREATE DATABASE "{login.database}" OWNER "{login.user}"), or correct'
            " --db-name and --db-user.",
        )
    return Conflict(
        "NQR-DB-120",
        f"PostgreSQL at {where} cannot be used: {said}.",
        "Check --db-host and --db-port, its listen_addresses, its pg_hba.conf and the firewall between.",
    )
