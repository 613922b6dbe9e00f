"""Checks the role for a database on this host."""

from __future__ import annotations

from collections.abc import Iterator

from nqrust.host.errors import HostError
from nqrust.host.facts.model import Facts
from nqrust.host.port import Host
from nqrust.host.secret import Secret
from nqrust.installer.preflight.findings import Finding, error, warning
from nqrust.installer.settings.model import DbType, Settings
from nqrust.installer.verbs.postgres.cluster import ClusterChoice
from nqrust.installer.verbs.postgres.rules import of_the_owner, shuts_out


def checks(settings: Settings, facts: Facts, host: Host, password: Secret | None) -> Iterator[Finding]:
    """Refuse the role of the cluster's owner, and warn about one that other programs may use. Distributions make clusters for the
    user postgres."""
    db = settings.database
    if not settings.has_manager or db.type is DbType.remote:
        return
    if db.user in {"postgres", *(cluster.owner for cluster in facts.postgres)}:
        found = of_the_owner(db.user)
        yield error(found.code, found.why, found.cure)
    elif password is not None and _shuts_out(host, db.port, db.user, password):
        yield warning(
            "NQR-DB-116",
            f"PostgreSQL has a role {db.user} already. nqr ends its sessions through the socket and lets nobody in there as {db.user}.",
            "Have other programs use 127.0.0.1 and the password, or choose another name with --db-user.",
        )


def _shuts_out(host: Host, port: int, role: str, password: Secret) -> bool:
    cluster = ClusterChoice(port=port).online(host)
    try:
        return cluster is not None and shuts_out(host, cluster, role, password)
    except HostError:
        return False  # the steps ask again, and say what is wrong
