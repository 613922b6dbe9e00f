"""Step: migrate the database with the release's own tool, after a dump of existing data."""

from __future__ import annotations

import contextlib
import itertools
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from nqrust.host.errors import CommandFailed, CommandTimedOut, HostError
from nqrust.host.port import Host, command
from nqrust.host.secret import Secret
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import (
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.engine.undo_record import Retain, Undo
from nqrust.installer.verbs.file.undo import undo_file
from nqrust.installer.verbs.postgres.sql import Connection, identifier

_DUMP_SECONDS = 3600.0
_TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema');"


@dataclass(frozen=True)
class Migrate:
    """Migrate the database to `version` of the release. `marker`: file with the last migrated version, and the schema that this
    led to. `table`: in which the release's tool, Alembic, keeps the schema. Without it, or with an older schema than the marker's,
    as after the restore of an older dump, the marker is outdated. `env` is for the tool, which runs as `user`. `backup_dir` must be a private folder (0700). Without `argv` a service migrates at its start, and the step only copies."""

    kind: ClassVar[str] = "migrate"

    argv: tuple[str, ...]
    version: str
    marker: str
    login: Connection
    backup_dir: str
    env: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    user: str | None = None
    table: str = "alembic_version"
    timeout: float = 1800.0

    @property
    def id(self) -> str:
        return "migrate"

    @property
    def _under_way(self) -> str:
        """The file that names the dump of a migration which has not ended. A rollback removes it, and leaves the dump: the next
        migration makes one of its own then."""
        return posixpath.join(self.backup_dir, f"{self.login.database}-to-{self.version}.migrating")

    def backup_path(self, host: Host) -> str:
        """Return the path of the dump: that of an interrupted migration, because it is older than any change, or a new one."""
        with contextlib.suppress(HostError):
            return posixpath.join(self.backup_dir, posixpath.basename(host.read_text(self._under_way).strip()))
        name = posixpath.join(self.backup_dir, f"{self.login.database}-before-{self.version}")
        numbered = (f"{name}{'' if number == 1 else f'-{number}'}.dump" for number in itertools.count(1))
        return next(path for path in numbered if not host.exists(path))

    @property
    def _key(self) -> str:
        return f"{self.version} {self.login.host}:{self.login.port}/{self.login.database}\n"

    def describe(self) -> str:
        if not self.argv:
            return f"copy the database {self.login.database} before {self.version} changes it"
        return f"bring the database {self.login.database} up to date for {self.version}"

    def inspect(self, host: Host) -> Inspection:
        try:
            key, _, led_to = host.read_text(self.marker).partition("\n")
        except HostError:
            key, led_to = "", ""
        if f"{key}\n" == self._key and (not self.argv or self._has(host, led_to.strip())):
            return Satisfied()
        return Needed((f"migrate {self.login.database} to {self.version}",))

    def prepare(self, host: Host) -> Prepared:
        # Only the dump can restore a schema. A database that nqr created has its own undo record.
        records: list[Undo] = [undo_file(self.marker, ours_sha256=None)]
        if not host.exists(self.backup_path(host)) and self._count(host) > 0:
            records.append(undo_file(self._under_way, ours_sha256=None))
            records.append(undo_file(self.backup_path(host), ours_sha256=None, retain=Retain.database))
        return Prepared(Origin.modified, tuple(records))

    def apply(self, host: Host) -> None:
        backup = self.backup_path(host)
        if not host.exists(backup) and self._count(host) > 0:
            self._dump(host, backup)
            host.write_file(self._under_way, f"{backup}\n".encode(), mode=0o600)
        try:
            if self.argv:
                host.run(command(*self.argv, env=self.env, user=self.user, timeout=self.timeout))
        except (CommandFailed, CommandTimedOut) as error:
            kept = f" The copy from before is {backup}." if host.exists(backup) else ""
            raise StepFailed(
                "NQR-DB-110",
                f"The database could not be migrated: {str(error).rstrip('.')}.{kept}",
                "Put right what the message names, then run the same command again; migrating starts where it stopped.",
            ) from error
        schema = f"{self._schema(host)}\n" if self.argv else ""
        host.remove(self._under_way)  # first: beside a marker it would stand for a later migration
        host.write_file(self.marker, f"{self._key}{schema}".encode(), mode=0o644)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    def _has(self, host: Host, led_to: str) -> bool:
        """Return whether the database has the schema of the marker, or a newer one, as after a downgrade. A marker of an earlier
        nqr names none."""
        schema = self._schema(host)
        return bool(schema and led_to) and schema >= led_to

    def _schema(self, host: Host) -> str:
        """Return the schema of the database; empty if it has none, or does not answer."""
        try:
            return self.login.run(host, f"SELECT max(version_num) FROM {identifier(self.table)};").strip()
        except HostError:
            return ""

    def _count(self, host: Host) -> int:
        try:
            return int(self.login.run(host, _TABLES) or "0")
        except (HostError, ValueError) as error:
            raise StepFailed(
                "NQR-DB-111",
                f"It cannot be told whether the database {self.login.database} holds something: {str(error).rstrip('.')}.",
                "See that psql is installed and that the database answers, then run the same command again.",
            ) from error

    def _dump(self, host: Host, backup: str) -> None:
        partial = f"{backup}.partial"
        # nqr creates the file first, so that others can never read it; pg_dump keeps mode and owner.
        host.write_file(partial, b"", mode=0o600)
        try:
            self.login.check(host)
            host.run(
                command(
                    "pg_dump", "-w", "--format=custom", f"--file={partial}",
                    env=self.login.environment(), timeout=_DUMP_SECONDS,
                )
            )  # fmt: skip
            host.rename(partial, backup)
        except HostError as error:
            raise StepFailed(
                "NQR-DB-112",
                f"The database could not be copied before its migration: {str(error).rstrip('.')}.",
                "Free space for the copy, or install a pg_dump as new as the server, then run the same command again.",
            ) from error
        finally:
            host.remove(partial)
