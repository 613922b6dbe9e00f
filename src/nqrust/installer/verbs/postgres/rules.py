"""The manager's role signs in over TCP with its password, and nobody does through the cluster's socket.

Distributions let an account of the host sign in over the socket as the role of the same name, without a password
(`local all all peer`). A role may change its own password, so a session in any database is enough to get all of its data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from nqrust.host.facts.model import PostgresCluster
from nqrust.host.port import Host
from nqrust.host.secret import Secret
from nqrust.installer.engine.step import Conflict, Inspection, Needed, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.verbs.file.block import Block
from nqrust.installer.verbs.postgres import scram
from nqrust.installer.verbs.postgres.cluster import ClusterChoice
from nqrust.installer.verbs.postgres.hba import HbaFile, look, through_the_socket
from nqrust.installer.verbs.postgres.role import find_role
from nqrust.installer.verbs.postgres.sql import as_owner, identifier, literal


def of_the_owner(role: str) -> Conflict:
    """Return why nqr refuses the role that owns the cluster."""
    return Conflict(
        "NQR-DB-115",
        f"The database role {role} owns this host's PostgreSQL cluster. nqr's rules would lock it out of the socket.",
        "Choose another name with --db-user.",
    )


def _of_a_superuser(role: str) -> Conflict:
    return Conflict(
        "NQR-DB-115",
        f"The PostgreSQL role {role} is a superuser. nqr's rules would lock it out of the socket.",
        f"Choose another name with --db-user. Or have it no longer be one: ALTER ROLE {identifier(role)} NOSUPERUSER;",
    )


def shuts_out(host: Host, cluster: PostgresCluster, role: str, password: Secret) -> bool:
    """Return whether the rules are to come, for a role that was there before nqr and has this password. Raises HostError."""
    found = find_role(host, cluster, role)
    if found is None or found.ours or not scram.fits(found.verifier, role, password.reveal()):
        return False
    asked = (
        "SELECT 1 FROM pg_hba_file_rules WHERE type = 'local' AND auth_method = 'reject' AND database = ARRAY['all']"
        f" AND user_name = ARRAY[{literal(role)}];"
    )
    return not as_owner(host, cluster, asked)


@dataclass(frozen=True)
class SignInRules:
    """Lines at the top of pg_hba.conf, whose first match wins. Comes before the role. They stay as long as the role,
    unless it was there before nqr."""

    kind: ClassVar[str] = "pg-rules"

    cluster: ClusterChoice
    role: str

    @property
    def id(self) -> str:
        return f"pg-rules:{self.role}"

    def describe(self) -> str:
        return f"let the PostgreSQL role {self.role} log in over TCP with its password only"

    def inspect(self, host: Host) -> Inspection:
        cluster = self.cluster.find(host)
        if cluster is not None and self.role == cluster.owner:
            return of_the_owner(self.role)
        if cluster is None or not cluster.usable:
            return Needed((f"+ rules for the PostgreSQL role {self.role}",))
        file = look(host, cluster, self.role)
        if file.superuser:
            return _of_a_superuser(self.role)
        found = file.inspect(host, self._block(file))
        if isinstance(found, Satisfied) and file.sessions:
            return Needed((f"end sessions of {self.role} through the socket",))
        return found

    def prepare(self, host: Host) -> Prepared:
        cluster = self.cluster.require(host)
        file = look(host, cluster, self.role)
        prepared = file.prepare(host, cluster, self._block(file))
        found = find_role(host, cluster, self.role)
        if found is None or found.ours:
            return prepared
        # The role stays after an uninstall, and so do the programs that signed in as it before.
        return replace(prepared, undo=tuple(replace(undo, retain=Retain.nothing) for undo in prepared.undo))

    def apply(self, host: Host) -> None:
        cluster = self.cluster.require(host)
        file = look(host, cluster, self.role)
        file.apply(host, cluster, self._block(file))
        # A session that began before is not asked again.
        ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {through_the_socket(self.role)};"
        as_owner(host, cluster, ended)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    # ---
    def _block(self, file: HbaFile) -> Block:
        """Return the block. An administrator's rules for TCP stay as they are, unless one asks for no password."""
        role = identifier(self.role)
        tcp = tuple(f"host all {role} {address} scram-sha-256" for address in file.unasked)
        return Block(file.path, f"database role {self.role}", (f"local all {role} reject", *tcp), at_top=True)
