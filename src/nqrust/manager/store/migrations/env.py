"""Alembic's environment: runs on the connection that `store.migrate` hands over."""

from __future__ import annotations

from alembic import context

from nqrust.manager.store.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
