"""Phase 5: the database. Local: role and database in the distribution's cluster. Remote: checked, never created."""

from __future__ import annotations

from nqrust.contract import paths
from nqrust.installer import secret_store
from nqrust.installer.context import Context
from nqrust.installer.distro import registry
from nqrust.installer.engine.plan import PhasePlan
from nqrust.installer.engine.step import Step
from nqrust.installer.engine.undo_record import Retain
from nqrust.installer.resources.env import database_host, database_port
from nqrust.installer.settings.model import DbType
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.postgres.cluster import ClusterChoice, PostgresClusterRunning
from nqrust.installer.verbs.postgres.database import Database
from nqrust.installer.verbs.postgres.login import TcpLogin
from nqrust.installer.verbs.postgres.role import Role, ScramPassword
from nqrust.installer.verbs.postgres.rules import SignInRules
from nqrust.installer.verbs.postgres.sql import Connection

_CREATES_ROLES = "CREATEROLE"
"""A release whose role has this attribute may let roles of its own connect."""


def login(context: Context) -> Connection:
    """Return the database login that the services use."""
    db = context.settings.database
    ca = context.database_ca[1] if context.database_ca else ""
    return Connection(database_host(context), database_port(context), db.name, db.user, context.secrets.db_password, ca)


def cluster(context: Context) -> ClusterChoice:
    return ClusterChoice(context.release.min_postgres, database_port(context))


def store_secrets(context: Context) -> tuple[Step, ...]:
    """Return steps that save the secrets before any step uses them. The secrets stay as long as the database."""
    return (
        Directory(paths.STATE_DIR, mode=0o711, adopt_modes=True),
        File(
            paths.SECRETS_JSON,
            secret_store.render(context.secrets),
            mode=0o600,
            ours_may_change=True,
            retain=Retain.database if context.settings.has_manager else Retain.nothing,
            what="secrets of this installation",
        ),
    )


def plan(context: Context) -> PhasePlan:
    settings = context.settings
    db = settings.database
    title = "Database"
    if not settings.has_manager:
        return PhasePlan("database", title, skipped="a worker node has none")
    steps: list[Step] = list(store_secrets(context))
    notes: tuple[str, ...] = ()
    if db.type is DbType.remote:
        notes = (f"The database is {db.name} on {db.host}:{db.port}; nothing is created there but the release's own tables.",)
    else:
        distro = registry.kin(context.facts.os)
        assert distro is not None
        choice = cluster(context)
        steps += [
            PostgresClusterRunning(choice, context.supervisor, distro.postgres_layout),
            ScramPassword(choice, db.user, context.secrets.db_password),
            SignInRules(choice, db.user),
            Role(choice, db.user, context.secrets.db_password, tuple(context.release.database_role_attributes)),
            Database(
                choice,
                db.name,
                db.user,
                tuple(context.release.database_extensions),
                first=context.first,
                own=context.own_database,
                closed=_CREATES_ROLES not in context.release.database_role_attributes,
            ),
            TcpLogin(choice, login(context)),
        ]
        if database_port(context) != db.port:
            notes = (f"PostgreSQL of this distribution is (or will be) on port {database_port(context)}, not {db.port}.",)
    return PhasePlan("database", title, tuple(steps), notes)
