"""The manager's role signs in over TCP with its password, and nobody does through the cluster's socket.

Distributions let an account of the host sign in over the socket as the role of the same name, without a password
(`local all all peer`). A role may change its own password, so a session in any database is enough to get all of its data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from nqrust.host.facts.model import PostgresCluster
from nqrust.host.port import Host
from nqrust.installer.engine.step import Conflict, Inspection, Needed, Prepared, Satisfied, verify_by_inspection
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.verbs.file.block import Block
from nqrust.installer.verbs.postgres.cluster import ClusterChoice
from nqrust.installer.verbs.postgres.sql import as_owner, identifier, literal


@dataclass(frozen=True)
class SignInRules:
    """Lines at the top of pg_hba.conf, whose first match wins. Comes before the role. They stay as long as the role."""

    kind: ClassVar[str] = "pg-rules"

    cluster: ClusterChoice
    role: str

    @property
    def id(self) -> str:
        return f"pg-rules:{self.role}"

    def describe(self) -> str:
        return f"let the PostgreSQL role {self.role} log in over TCP with its password only"

    def inspect(self, host: Host) -> Inspection:
        cluster = self.cluster.online(host)
        if cluster is None:
            return Needed((f"+ rules for the PostgreSQL role {self.role}",))
        path, sessions = self._look(host, cluster)
        found = self._block(path).inspect(host)
        if isinstance(found, (Needed, Conflict)):
            return found
        return Needed((f"end sessions of {self.role} through the socket",)) if sessions else Satisfied()

    def prepare(self, host: Host) -> Prepared:
        path, _ = self._look(host, self.cluster.require(host))
        prepared = self._block(path).prepare(host)
        return replace(prepared, undo=tuple(replace(undo, retain=Retain.database) for undo in prepared.undo))

    def apply(self, host: Host) -> None:
        cluster = self.cluster.require(host)
        path, _ = self._look(host, cluster)
        self._block(path).apply(host)
        as_owner(host, cluster, "SELECT pg_reload_conf();")
        # The server reads the rules before it accepts another connection. A session that began before is not asked again.
        as_owner(host, cluster, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {self._through_the_socket};")

    def verify(self, host: Host) -> None:
        verify_by_inspection(self, host)

    # ---
    def _look(self, host: Host, cluster: PostgresCluster) -> tuple[str, bool]:
        """Return the path of pg_hba.conf, and whether the role has a session through the socket."""
        sessions = f"SELECT pid FROM pg_stat_activity WHERE {self._through_the_socket};"
        path, *pids = as_owner(host, cluster, f"SHOW hba_file;\n{sessions}").splitlines()
        return path, bool(pids)

    @property
    def _through_the_socket(self) -> str:
        return f"usename = {literal(self.role)} AND backend_type = 'client backend' AND client_addr IS NULL"

    def _block(self, path: str) -> Block:
        role = identifier(self.role)
        tcp = tuple(f"host all {role} {address} scram-sha-256" for address in ("127.0.0.1/32", "::1/128"))
        return Block(path, f"database role {self.role}", (f"local all {role} reject", *tcp), at_top=True)
