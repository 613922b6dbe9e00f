"""A PostgreSQL role that logs in with a password."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from nqrust.contract import names as product
from nqrust.host.facts.model import PostgresCluster
from nqrust.host.port import Host
from nqrust.host.secret import Secret
from nqrust.installer.engine.step import (
    Conflict,
    Inspection,
    Needed,
    Origin,
    Prepared,
    Satisfied,
    verify_by_inspection,
)
from nqrust.installer.verbs.postgres import scram
from nqrust.installer.verbs.postgres.cluster import ClusterChoice
from nqrust.installer.verbs.postgres.sql import as_owner, cluster_arguments, identifier, literal
from nqrust.installer.verbs.postgres.undo import undo_role

MARK = product.PRODUCT
"""Comment on the role: it distinguishes nqr's role, kept by an earlier uninstall, from a foreign one."""

ATTRIBUTES = {"CREATEROLE": "rolcreaterole", "CREATEDB": "rolcreatedb"}


@dataclass(frozen=True)
class FoundRole:
    """`ours`: it has nqr's mark."""

    verifier: str
    login: bool
    attributes: frozenset[str]
    ours: bool


def find_role(host: Host, cluster: PostgresCluster, name: str) -> FoundRole | None:
    columns = ", ".join(ATTRIBUTES.values())
    out = as_owner(
        host,
        cluster,
        f"SELECT coalesce(rolpassword, ''), rolcanlogin, shobj_description(oid, 'pg_authid') = {literal(MARK)},"
        f" {columns} FROM pg_authid WHERE rolname = {literal(name)};",
    )
    if not out:
        return None
    verifier, login, ours, *flags = out.splitlines()[0].split("|")
    has = frozenset(name for name, flag in zip(ATTRIBUTES, flags, strict=True) if flag == "t")
    return FoundRole(verifier, login == "t", has, ours == "t")


def _foreign(name: str) -> Conflict:
    return Conflict(
        "NQR-DB-103",
        f"PostgreSQL has a role {name} already, with another password.",
        "Give its password in DB_PASSWORD if it is meant for this, or choose another name with --db-user.",
    )


@dataclass(frozen=True)
class Role:
    """A role. An existing role without nqr's mark or this password is foreign: a conflict."""

    kind: ClassVar[str] = "pg-role"

    cluster: ClusterChoice
    name: str
    password: Secret = field(repr=False)
    attributes: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"pg-role:{self.name}"

    def describe(self) -> str:
        return f"create PostgreSQL role {self.name}"

    def inspect(self, host: Host) -> Inspection:
        cluster = self.cluster.online(host)
        found = find_role(host, cluster, self.name) if cluster is not None else None
        if found is None:
            return Needed((f"+ PostgreSQL role {self.name} (password secret)",))
        fits = scram.fits(found.verifier, self.name, self.password.reveal())
        if not fits and not found.ours:
            return _foreign(self.name)
        diff = [] if fits else [f"PostgreSQL role {self.name}: password differs (secret)"]
        if not found.login:
            diff.append(f"PostgreSQL role {self.name}: + LOGIN")
        diff += [f"PostgreSQL role {self.name}: + {name}" for name in self.attributes if name not in found.attributes]
        return Needed(tuple(diff)) if diff else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        cluster = self.cluster.require(host)
        if cluster.online and find_role(host, cluster, self.name) is not None:
            return Prepared(Origin.modified, ())  # nqr's from an earlier install, whose receipt is gone
        return Prepared(Origin.created, (undo_role(cluster_arguments(cluster), self.name),))

    def apply(self, host: Host) -> None:
        cluster = self.cluster.require(host)
        verb = "CREATE" if find_role(host, cluster, self.name) is None else "ALTER"
        # nqr sends the finished verifier, so that a server that logs statements does not log the password.
        secret = literal(scram.verifier(self.password.reveal()))
        wanted = " ".join(("LOGIN", *self.attributes))
        sql = (
            f"BEGIN; {verb} ROLE {identifier(self.name)} {wanted} PASSWORD {secret};"
            f" COMMENT ON ROLE {identifier(self.name)} IS {literal(MARK)}; COMMIT;"
        )
        as_owner(host, cluster, Secret(sql))

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)


@dataclass(frozen=True)
class ScramPassword:
    """The password of an existing role as a SCRAM verifier: PostgreSQL 13 made md5 by default. Comes before rules that ask for
    SCRAM, so it refuses a foreign role as `Role` does: the rules would end that role's sessions. It has no undo: the password stays, and rules that ask for md5 take a SCRAM verifier too (PostgreSQL, Password
    Authentication)."""

    kind: ClassVar[str] = "pg-verifier"

    cluster: ClusterChoice
    name: str
    password: Secret = field(repr=False)

    @property
    def id(self) -> str:
        return f"pg-verifier:{self.name}"

    def describe(self) -> str:
        return f"keep the password of the PostgreSQL role {self.name} as SCRAM-SHA-256"

    def inspect(self, host: Host) -> Inspection:
        cluster = self.cluster.online(host)
        found = find_role(host, cluster, self.name) if cluster is not None else None
        if found is None:
            return Satisfied()
        if not scram.fits(found.verifier, self.name, self.password.reveal()):
            return Satisfied() if found.ours else _foreign(self.name)
        if scram.is_one(found.verifier):
            return Satisfied()
        return Needed((f"PostgreSQL role {self.name}: md5 password becomes SCRAM-SHA-256 (secret)",))

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.modified, ())

    def apply(self, host: Host) -> None:
        secret = literal(scram.verifier(self.password.reveal()))
        as_owner(host, self.cluster.require(host), Secret(f"ALTER ROLE {identifier(self.name)} PASSWORD {secret};"))

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)
