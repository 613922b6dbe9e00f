"""The role's login over TCP with its password, as the manager does it. Debian's default pg_hba.conf allows it. If someone
changed that, one marked block at its top allows it for this database and role alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.errors import HostError
from nqrust.host.facts.model import PostgresCluster
from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Inspection, Needed, Prepared, Satisfied
from nqrust.installer.verbs.file.block import Block
from nqrust.installer.verbs.postgres.cluster import ClusterChoice
from nqrust.installer.verbs.postgres.hba import LOOPBACK, HbaFile, look
from nqrust.installer.verbs.postgres.sql import Connection, identifier, refusal_text

_REFUSED_BY_HBA = (
    "no pg_hba.conf entry",
    "pg_hba.conf rejects",
    "Ident authentication failed",
    "Peer authentication",
)


@dataclass(frozen=True)
class TcpLogin:
    """The login. Comes after role and database. `login` names host and database; the cluster gives the port."""

    kind: ClassVar[str] = "pg-login"

    cluster: ClusterChoice
    login: Connection

    @property
    def id(self) -> str:
        return f"pg-login:{self.login.user}"

    def describe(self) -> str:
        return f"let the role {self.login.user} log in to {self.login.database} over TCP"

    def inspect(self, host: Host) -> Inspection:
        cluster = self.cluster.online(host)
        if cluster is None:
            return Satisfied("asked once the cluster runs")
        refusal = self._refusal(host, cluster)
        if refusal is None:
            return Satisfied()
        if not any(sign in refusal for sign in _REFUSED_BY_HBA):
            # No such role or database yet (during planning), or a failure that `verify` will report.
            if "does not exist" in refusal or "password authentication failed" in refusal:
                return Satisfied("asked once role and database are there")
            return Needed((f"log in over TCP: {refusal}",))
        file = look(host, cluster, self.login.user)
        found = file.inspect(host, self._block(file))
        return Needed((f"have PostgreSQL read {file.path}",)) if isinstance(found, Satisfied) else found

    def prepare(self, host: Host) -> Prepared:
        cluster = self.cluster.require(host)
        file = look(host, cluster, self.login.user)
        return file.prepare(host, cluster, self._block(file))

    def apply(self, host: Host) -> None:
        cluster = self.cluster.require(host)
        refusal = self._refusal(host, cluster)
        if refusal is not None and any(sign in refusal for sign in _REFUSED_BY_HBA):
            file = look(host, cluster, self.login.user)
            file.apply(host, cluster, self._block(file))

    def verify(self, host: Host) -> None:
        cluster = self.cluster.require(host)
        refusal = self._refusal(host, cluster)
        if refusal is not None:
            raise StepFailed(
                "NQR-DB-107",
                f"The role {self.login.user} cannot log in to {self.login.database} at {self.login.host}:{cluster.port}:"
                f" {refusal}.",
                "See that listen_addresses of that cluster includes localhost and that pg_hba.conf allows it, then run"
                " the same command again.",
            )

    # ---
    def _refusal(self, host: Host, cluster: PostgresCluster) -> str | None:
        login = Connection(self.login.host, cluster.port, self.login.database, self.login.user, self.login.password)
        try:
            login.run(host, "SELECT 1;")
        except HostError as error:
            return refusal_text(error)
        return None

    def _block(self, file: HbaFile) -> Block:
        entry = f"host {identifier(self.login.database)} {identifier(self.login.user)}"
        lines = tuple(f"{entry} {address} scram-sha-256" for address in LOOPBACK)
        return Block(file.path, "manager login", lines, at_top=True)
