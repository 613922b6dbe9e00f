"""The manager's role signs in over TCP with its password, and nobody does through the cluster's socket.

Distributions let an account of the host sign in over the socket as the role of the same name, without a password
(`local all all peer`). A role may change its own password, so a session in any database is enough to get all of its data.
"""

from __future__ import annotations

import ipaddress
import re
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
from nqrust.installer.verbs.postgres.hba import LOOPBACK, HbaFile, look, through_the_socket
from nqrust.installer.verbs.postgres.role import find_role
from nqrust.installer.verbs.postgres.sql import as_owner, identifier, literal


def of_the_owner(role: str) -> Conflict:
    """Return why nqr refuses the role that owns the cluster."""
    return Conflict(
        "NQR-DB-115",
        f"The database role {role} owns this host's PostgreSQL cluster. nqr's rules would lock it out of the socket.",
        "Choose another name with --db-user.",
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
        if cluster is not None and (refused := self._refused(host, cluster)) is not None:
            return refused
        if cluster is None or not cluster.online or cluster.doubt:
            return Needed((f"+ rules for the PostgreSQL role {self.role}",))
        file = look(host, cluster, self.role)
        found = file.inspect(host, self._block(host, cluster, file))
        if isinstance(found, Satisfied) and file.sessions:
            return Needed((f"end sessions of {self.role} through the socket",))
        return found

    def prepare(self, host: Host) -> Prepared:
        cluster = self.cluster.require(host)
        file = look(host, cluster, self.role)
        prepared = file.prepare(host, cluster, self._block(host, cluster, file))
        found = find_role(host, cluster, self.role)
        if found is None or found.ours:
            return prepared
        # The role stays after an uninstall, and so do the programs that signed in as it before.
        return replace(prepared, undo=tuple(replace(undo, retain=Retain.nothing) for undo in prepared.undo))

    def apply(self, host: Host) -> None:
        cluster = self.cluster.require(host)
        file = look(host, cluster, self.role)
        file.apply(host, cluster, self._block(host, cluster, file))
        # A session that began before is not asked again.
        ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {through_the_socket(self.role)};"
        as_owner(host, cluster, ended)

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    # ---
    def _refused(self, host: Host, cluster: PostgresCluster) -> Conflict | None:
        """Return why the role gets no rules: who administers the cluster, nqr too, signs in through the socket."""
        if self.role == cluster.owner:
            return of_the_owner(self.role)
        asked = f"SELECT 1 FROM pg_roles WHERE rolsuper AND rolname = {literal(self.role)};"
        if not cluster.online or cluster.doubt or not as_owner(host, cluster, asked):
            return None
        return Conflict(
            "NQR-DB-115",
            f"The PostgreSQL role {self.role} is a superuser. nqr's rules would lock it out of the socket.",
            f"Choose another name with --db-user. Or have it no longer be one: ALTER ROLE {identifier(self.role)} NOSUPERUSER;",
        )

    def _block(self, host: Host, cluster: PostgresCluster, file: HbaFile) -> Block:
        """Return the block. An administrator's rules for TCP stay as they are, unless one asks for no password."""
        role = identifier(self.role)
        addresses = (*(LOOPBACK if file.unasked else ()), *_open_to(host, cluster, self.role))
        tcp = tuple(f"host all {role} {address} scram-sha-256" for address in addresses)
        return Block(file.path, f"database role {self.role}", (f"local all {role} reject", *tcp), at_top=True)


def _open_to(host: Host, cluster: PostgresCluster, role: str) -> tuple[str, ...]:
    """Return addresses other than loopback's from which a line lets the role in without its password, as pg_hba.conf writes them.
    The host may have one of them, and with it each of its accounts."""
    rows = as_owner(
        host,
        cluster,
        "SELECT address, netmask FROM pg_hba_file_rules WHERE type LIKE 'host%' AND auth_method IN ('trust', 'ident')"
        " AND database <> ARRAY['replication'] AND EXISTS (SELECT FROM unnest(user_name) AS name"
        f" WHERE name IN ('all', {literal(role)}) OR name LIKE '+%' OR name LIKE '/%') ORDER BY line_number;",
    ).splitlines()
    found = dict.fromkeys(_written(*row.split("|", 1)) for row in rows)
    return tuple(address for address in found if address not in LOOPBACK)


def _written(address: str, netmask: str) -> str:
    """`address`: also `all`, `samenet`, `samehost` or a host's name."""
    if netmask:
        bits = int(ipaddress.ip_address(netmask))
        written = f"{address}/{bin(bits).count('1')}"
        return written if ipaddress.ip_network(written, strict=False).netmask == ipaddress.ip_address(netmask) else "all"
    return address if re.fullmatch(r"[\w.-]+", address, re.ASCII) else "all"
