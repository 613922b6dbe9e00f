"""Access to PostgreSQL: one pooled asynchronous engine, transactions, waiting for it, checking its schema."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
import structlog
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from nqrust.manager.errors import DatabaseAway, DatabaseLocked, DatabaseSlow, SchemaMissing
from nqrust.manager.store import listener, shares
from nqrust.manager.store.password import Password

SCHEMA_HEAD = "0009"
"""The oldest migration that this program can use. A test keeps it equal to the newest one in `migrations/versions`."""

OPERATIONS_CHANNEL = "nqrust_operations"
LEADER_LOCK = 0x6E71_7275_7374_0001
MIGRATION_LOCK = 0x6E71_7275_7374_0002
RIGHTS_LOCK = 0x6E71_7275_7374_0003
ENTRIES_LOCK = 0x6E71_7275_7374_0004
"""Keys of pg_advisory_lock (PostgreSQL manual, 9.28.10)."""

_AWAY = ("08", "40", "53", "57P", "58")
"""Classes of SQLSTATE (PostgreSQL manual, appendix A): connection, rollback, resources, shutdown, system. Others, such as 54 for
a value that is too long for an index, come from the statement, and a second try ends the same way. No code: libpq's own error."""
_LOCK_NOT_AVAILABLE = "55P03"
"""SQLSTATE of a statement whose lock_timeout is over."""
_QUERY_CANCELED = "57014"
"""SQLSTATE of a statement whose statement_timeout is over."""
_WRITERS_WAIT, _READER_WAITS = "10s", "2s"
"""How long either side waits for ENTRIES_LOCK. While a reader waits, new entries wait, too."""
LIST_SECONDS = 15.0
"""How long the database may work on a statement of a list. Clients wait for 30 s."""

_LOCK_TIMEOUT = text("SELECT set_config('lock_timeout', :time, true)")
_BOUNDED = text("SELECT set_config('statement_timeout', :milliseconds, true)")

log = structlog.get_logger("nqrust.manager.database")


def is_away(error: BaseException) -> bool:
    """Return whether a database error means that the server is gone, or cannot work now, not that the statement was wrong."""
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    if not isinstance(error, (OperationalError, InterfaceError)):
        return False
    state = getattr(error.orig, "sqlstate", None)
    return state is None or state.startswith(_AWAY)


def trouble(error: BaseException) -> DatabaseAway | None:
    """Return the answer to a database error that a later try may not meet. None: the statement was wrong."""
    state = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    if state == _LOCK_NOT_AVAILABLE:
        return DatabaseLocked()
    if state == _QUERY_CANCELED:
        return DatabaseSlow()
    return DatabaseAway() if isinstance(error, PoolTimeout) or is_away(error) else None


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        if (answer := trouble(error)) is None:
            raise
        raise answer from error


class Database:
    """`url`: SQLAlchemy's form. The pool opens connections on demand and checks each before use. `password_file`: has the
    password, and is read again for each new connection."""

    def __init__(self, url: str, pool_size: int = 8, password_file: str | None = None) -> None:
        self._password = Password(password_file)
        self.engine = self._engine(url, pool_size, more=8)
        self._for_entries = self._engine(url, 2, more=0)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self._entries = async_sessionmaker(self._for_entries, expire_on_commit=False)

    def _engine(self, url: str, pool_size: int, more: int) -> AsyncEngine:
        engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=more,
            pool_pre_ping=True,
            pool_timeout=10,
            pool_recycle=1800,
            hide_parameters=True,  # an error in the log must not show a token or user data
            connect_args={
                "connect_timeout": 5,
                "application_name": "nqrust-manager",
                "options": "-c TimeZone=UTC",
            },
        )
        listener.guard(engine.sync_engine)
        event.listen(engine.sync_engine, "do_connect", self._connect)
        return engine

    def _connect(self, dialect: Any, _: object, arguments: list[Any], parameters: dict[str, Any]) -> Any:
        """Open a connection of the pool (SQLAlchemy, DialectEvents.do_connect)."""
        for password in (candidates := self._password.candidates()):
            try:
                more = {} if password is None else {"password": password}
                connection = dialect.connect(*arguments, **{**parameters, **more})
            except psycopg.OperationalError:
                if password == candidates[-1]:
                    raise
            else:
                self._password.worked(password)
                return connection
        raise AssertionError("unreachable")

    async def alone(self, name: str) -> psycopg.AsyncConnection[tuple[object, ...]]:
        """Return a connection outside of the pool, in autocommit. `name`: for the server's list of connections.

        Raises psycopg.Error, OSError.
        """
        listener.check(self.engine.url)
        url = self.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        for password in (candidates := self._password.candidates()):
            try:
                connection = await psycopg.AsyncConnection.connect(
                    url, autocommit=True, connect_timeout=5, application_name=name, password=password
                )
            except psycopg.OperationalError:
                if password == candidates[-1]:
                    raise
            else:
                self._password.worked(password)
                return connection
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Yield a session in a transaction: committed when the block ends, rolled back when it raises.

        Raises DatabaseAway if the server cannot be reached or the connection breaks, DatabaseLocked if its lock_timeout is over.
        All requests of one sender together get a few connections, and wait here for more.
        """
        with _translated():
            async with shares.connection(), self._sessions() as session, session.begin():
                yield session

    @asynccontextmanager
    async def entries(self) -> AsyncIterator[AsyncSession]:
        """Yield a session in a transaction for the audit log. Its connections are its own, so no sender can keep it waiting.

        Raises what `transaction` raises.
        """
        with _translated():
            async with self._entries() as session, session.begin():
                await session.execute(_LOCK_TIMEOUT, {"time": _WRITERS_WAIT})
                await session.execute(select(func.pg_advisory_xact_lock_shared(ENTRIES_LOCK)))
                yield session

    @asynccontextmanager
    async def entries_settled(self) -> AsyncIterator[AsyncSession]:
        """Yield a session in a transaction beside which no `entries` runs: it sees each entry that has an id. End it soon.

        Raises what `transaction` raises.
        """
        async with self.transaction() as session:
            await session.execute(_LOCK_TIMEOUT, {"time": _READER_WAITS})
            await session.execute(select(func.pg_advisory_xact_lock(ENTRIES_LOCK)))
            yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """Yield a session in a transaction that reads a list: each statement ends after LIST_SECONDS.

        Raises DatabaseSlow then, and what `transaction` raises.
        """
        async with self.transaction() as session:
            await session.execute(_BOUNDED, {"milliseconds": str(round(LIST_SECONDS * 1000))})
            yield session

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
        await self._for_entries.dispose()
