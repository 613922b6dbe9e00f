"""Access to PostgreSQL: one pooled asynchronous engine, transactions, waiting for it, checking its schema."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from nqrust.manager.errors import DatabaseAway, SchemaMissing

SCHEMA_HEAD = "0004"
"""The oldest migration that this program can use. A test keeps it equal to the newest one in `migrations/versions`."""

OPERATIONS_CHANNEL = "nqrust_operations"
LEADER_LOCK = 0x6E71_7275_7374_0001
MIGRATION_LOCK = 0x6E71_7275_7374_0002
"""Keys of pg_advisory_lock (PostgreSQL manual, 9.28.10)."""

log = structlog.get_logger("nqrust.manager.database")


def is_away(error: BaseException) -> bool:
    """Return whether a database error means that the server is gone, not that the statement was wrong."""
    if isinstance(error, (OperationalError, InterfaceError)):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


class Database:
    """`url`: SQLAlchemy's form. The pool opens connections on demand and checks each before use."""

    def __init__(self, url: str, pool_size: int = 8) -> None:
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=8,
            pool_pre_ping=True,
            pool_timeout=10,
            pool_recycle=1800,
            connect_args={
                "connect_timeout": 5,
                "application_name": "nqrust-manager",
                "options": "-c TimeZone=UTC",
            },
        )
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Yield a session in a transaction: committed when the block ends, rolled back when it raises.

        Raises DatabaseAway if the server cannot be reached or the connection breaks.
        """
        try:
            async with self._sessions() as session, session.begin():
                yield session
        except (DBAPIError, PoolTimeout) as error:
            if isinstance(error, DBAPIError) and not is_away(error):
                raise
            raise DatabaseAway() from error

    async def ping(self, timeout: float = 2.0) -> bool:
        """Return whether the database answers within `timeout` seconds."""
        try:
            await asyncio.wait_for(self._ping(), timeout)
        except (DBAPIError, OSError, asyncio.TimeoutError, TimeoutError):
            return False
        return True

    async def _ping(self) -> None:
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def wait_until_there(self, seconds: float) -> None:
        """Wait with back-off (0.2 s doubling to 5 s) until the database answers; DatabaseAway after `seconds`."""
        deadline = time.monotonic() + seconds
        pause = 0.2
        while True:
            try:
                await asyncio.wait_for(self._ping(), 10)
                return
            except (DBAPIError, OSError, asyncio.TimeoutError, TimeoutError) as error:
                reason = str(getattr(error, "orig", None) or error).strip().splitlines()
                if time.monotonic() + pause > deadline:
                    raise DatabaseAway(f"The database does not answer: {reason[0] if reason else error!r}") from error
                log.warning("waiting for the database", reason=reason[0] if reason else repr(error))
                await asyncio.sleep(pause)
                pause = min(5.0, pause * 2)

    async def require_schema(self) -> None:
        """Raise SchemaMissing unless migrations ran. A newer schema is fine: migrations stay readable one version back."""
        async with self.engine.connect() as connection:
            present = await connection.scalar(text("SELECT to_regclass('alembic_version')"))
            version = await connection.scalar(text("SELECT version_num FROM alembic_version")) if present else None
        if version is None:
            raise SchemaMissing("The database has no tables yet; run `nqrust-manager migrate` first.")
        if str(version) < SCHEMA_HEAD:
            raise SchemaMissing(
                f"The database is at schema {version}, this program needs {SCHEMA_HEAD}; run `nqrust-manager migrate`."
            )

    async def close(self) -> None:
        await self.engine.dispose()
