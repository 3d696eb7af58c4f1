"""One service's database: SQLite in a file, or a schema of its own in PostgreSQL."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import StaticPool

from anabranch_faults import Transient, Unreachable
from anabranch_store import locks, migration

__all__ = ["Database"]

_BUSY_MS = 10_000
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
# serialization_failure, deadlock_detected, lock_not_available: the same transaction may work next time.
_REPEATABLE = frozenset({"40001", "40P01", "55P03"})


class Database:
    """Transactions on `url` (`sqlite:////folder/file.db`, `postgresql://user@host/name`).

    `schema` is the service's own: a PostgreSQL schema; on SQLite the file is. `migrations` is the dotted name of the
    package that holds the Alembic revisions as modules (no env.py is needed). Used from one event loop.
    """

    def __init__(self, url: str, *, schema: str, migrations: str, pool_size: int = 8) -> None:
        """Opens nothing. Raises ValueError for a url or schema that cannot be."""
        parsed = make_url(url)
        self.dialect = parsed.get_backend_name()
        if self.dialect not in ("sqlite", "postgresql"):
            raise ValueError(f"{parsed.render_as_string()}: a database url begins with sqlite: or postgresql:")
        if not _NAME.fullmatch(schema):
            raise ValueError(f"{schema!r} is not a schema name: lower-case letters, digits and _")
        self.schema = schema
        self._migrations = migrations
        in_file = self.dialect == "sqlite" and parsed.database not in (None, "", ":memory:")
        self.path = Path(str(parsed.database)) if in_file else None
        self._writing = asyncio.Lock()
        self._on_commit: list[tuple[str, Callable[[], None]]] = []
        if self.dialect == "sqlite":
            self._engine = _sqlite(parsed.set(drivername="sqlite+aiosqlite"), self.path, pool_size)
        else:
            self._engine = _postgres(parsed.set(drivername="postgresql+asyncpg"), schema, pool_size)

    @property
    def engine(self) -> AsyncEngine:
        """For what transactions do not cover, such as streaming reads."""
        return self._engine

    async def migrate(self) -> None:
        """Bring the schema to the newest revision; replicas may do so at once, one works and the others wait.

        Raises Unreachable, and SchemaAhead when the database is newer than this program.
        """
        if self.path is not None:
            await asyncio.to_thread(self.path.parent.mkdir, parents=True, exist_ok=True)
        async with _translated():
            await migration.upgrade(self._engine, path=self.path, schema=self.schema, package=self._migrations)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """All or nothing: committed when the block ends, rolled back when it raises.

        On SQLite a writer from its first statement (BEGIN IMMEDIATE), one at a time: use `reading()` to read only,
        and do not await other services inside. Raises Unreachable when the database is away, Transient on a deadlock;
        IntegrityError passes through. Objects stay readable after the commit.
        """
        if self.dialect == "sqlite":
            # Waiting here is fair and wakes at once; SQLite's own busy handler sleeps up to 100 ms at a time.
            async with self._writing, self._session(begin="IMMEDIATE") as session:
                yield session
        else:
            async with self._session() as session:
                yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A transaction that only reads: on SQLite it neither waits for writers nor holds them up."""
        async with self._session(begin="DEFERRED") as session:
            yield session

    @asynccontextmanager
    async def exclusive(self, name: str) -> AsyncIterator[None]:
        """Hold the lock `name` of this database against all replicas; waits for it; ends with the process."""
        async with _translated(), locks.exclusive(self._engine, path=self.path, schema=self.schema, name=name):
            yield

    def on_commit(self, mark: str, call: Callable[[], None]) -> None:
        """Call `call` after each commit of a transaction whose `AsyncSession.info` has the key `mark`."""
        self._on_commit.append((mark, call))

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _session(self, begin: str = "") -> AsyncIterator[AsyncSession]:
        async with _translated():
            engine = self._engine.execution_options(anabranch_begin=begin) if begin else self._engine
            async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
                yield session
        for mark, call in self._on_commit:
            if mark in session.info:
                call()


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except PoolTimeout as error:
        raise Transient("no database connection became free in time") from error
    except (OperationalError, InterfaceError) as error:
        if "locked" in str(error.orig):
            raise Transient("the database is locked by another process") from error
        raise Unreachable(f"the database is away: {type(error.orig).__name__}") from error
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) in _REPEATABLE:
            raise Transient("the transaction lost against a concurrent one") from error
        if error.connection_invalidated:
            raise Unreachable("the connection to the database broke") from error
        raise
    except (ConnectionError, TimeoutError) as error:
        # asyncpg lets the socket's errors through while it connects.
        raise Unreachable(f"the database is away: {type(error).__name__}") from error


def _sqlite(url: Any, path: Path | None, pool_size: int) -> AsyncEngine:
    if path is None:
        engine = create_async_engine(url, poolclass=StaticPool)
    else:
        engine = create_async_engine(url, pool_size=pool_size, max_overflow=0)

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions by itself: `begin` below says which kind.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={_BUSY_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        kind = connection.get_execution_options().get("anabranch_begin", "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {kind}")

    return engine


def _postgres(url: Any, schema: str, pool_size: int) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=True,
        pool_timeout=10,
        connect_args={
            "timeout": 10,
            # A replica that stops in the middle of a transaction must not hold its locks for ever.
            "server_settings": {"search_path": schema, "idle_in_transaction_session_timeout": "60000"},
        },
    )
