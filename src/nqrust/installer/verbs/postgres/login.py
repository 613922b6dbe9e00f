"""The role's login over TCP with its password, as the manager does it. `rules.py` allows it in pg_hba.conf."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nqrust.host.errors import HostError
from nqrust.host.facts.model import PostgresCluster
from nqrust.host.port import Host
from nqrust.installer.engine.errors import StepFailed
from nqrust.installer.engine.step import Inspection, Needed, Origin, Prepared, Satisfied
from nqrust.installer.verbs.postgres.cluster import ClusterChoice
from nqrust.installer.verbs.postgres.sql import Connection, refusal_text


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
        # No such role or database yet (during planning), or a failure that `verify` will report.
        if "does not exist" in refusal or "password authentication failed" in refusal:
            return Satisfied("asked once role and database are there")
        return Needed((f"log in over TCP: {refusal}",))

    def prepare(self, host: Host) -> Prepared:
        return Prepared(Origin.modified, ())

    def apply(self, host: Host) -> None:
        """Nothing: rules, role and database are there. `verify` says what is not."""

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
