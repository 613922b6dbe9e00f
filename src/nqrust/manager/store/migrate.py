"""`nqrust-manager migrate`: bring the database to the newest schema, once even if several run at the same time."""

from __future__ import annotations

import os
import time

import structlog
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from nqrust.manager.errors import DatabaseAway
from nqrust.manager.store import listener
from nqrust.manager.store.database import MIGRATION_LOCK

log = structlog.get_logger("nqrust.manager.migrate")


def migrate(url: str, wait_seconds: float = 60.0) -> tuple[str | None, str]:
    """Run all migrations in one transaction under an advisory lock. Return the schema versions before and after.

    `url`: SQLAlchemy's form. Waits up to `wait_seconds` for the server; raises DatabaseAway after that.
    """
    # Only this needs Alembic; the serving process does not load it.
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext

    config = Config()
    config.set_main_option("script_location", os.path.join(os.path.dirname(__file__), "migrations"))
    engine = create_engine(url, connect_args={"connect_timeout": 5, "application_name": "nqrust-manager-migrate"})
    listener.guard(engine)
    deadline = time.monotonic() + wait_seconds
    pause = 0.2
    try:
        while True:
            try:
                connection = engine.connect()
                break
            except OperationalError as error:
                reason = str(error.orig).strip().splitlines()[0]
                if time.monotonic() + pause > deadline:
                    raise DatabaseAway(f"The database does not answer: {reason}") from error
                log.warning("waiting for the database", reason=reason)
                time.sleep(pause)
                pause = min(5.0, pause * 2)
        with connection, connection.begin():
            # Held until the transaction ends, so a second migrate waits and then finds nothing to do.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            context = MigrationContext.configure(connection)
            before = context.get_current_revision()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            after = MigrationContext.configure(connection).get_current_revision()
        return before, after or ""
    finally:
        engine.dispose()
