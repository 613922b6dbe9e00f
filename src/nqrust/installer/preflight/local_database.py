"""Checks the role for a database on this host."""

from __future__ import annotations

from collections.abc import Iterator

from nqrust.host.facts.model import Facts
from nqrust.installer.preflight.findings import Finding, error
from nqrust.installer.settings.model import DbType, Settings
from nqrust.installer.verbs.postgres.rules import of_the_owner


def checks(settings: Settings, facts: Facts) -> Iterator[Finding]:
    """Refuse the role of the cluster's owner. Distributions make clusters for the user postgres."""
    db = settings.database
    if not settings.has_manager or db.type is DbType.remote:
        return
    if db.user in {"postgres", *(cluster.owner for cluster in facts.postgres)}:
        found = of_the_owner(db.user)
        yield error(found.code, found.why, found.cure)
