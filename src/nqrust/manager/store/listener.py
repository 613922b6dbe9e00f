"""Looks for programs of people at the database's port on loopback. Any user of the machine may listen there while PostgreSQL is away.

PostgreSQL then starts without that address if it has another one, such as ::1. The other program could pass on what both ends say.
Once the manager is signed in, it could speak in the manager's name. SCRAM alone does not stop that.
"""

from __future__ import annotations

from typing import Any

import psycopg
from sqlalchemy import Engine, event
from sqlalchemy.engine import URL

from nqrust import loopback
from nqrust.manager.settings import PROVES


def check(url: URL) -> None:
    """Raise psycopg.OperationalError if a person's program listens there. A `require_auth` of the administrator's own wins."""
    host, port = url.host or "", url.port or 5432
    if url.query.get("require_auth") != PROVES or not loopback.is_local(host):
        return
    if (user := loopback.person_at(host, port)) is not None:
        raise psycopg.OperationalError(f"a program of user {user} listens at {host}:{port}, and is not believed to be PostgreSQL")


def guard(engine: Engine) -> None:
    """Check before each new connection (SQLAlchemy, DialectEvents.do_connect)."""

    def look(*_: Any) -> None:
        check(engine.url)

    event.listen(engine, "do_connect", look)
