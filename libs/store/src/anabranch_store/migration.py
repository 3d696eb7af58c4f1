"""Alembic, run from code: the revisions are modules of a package, and replicas take turns."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from anabranch_observability import get_logger
from anabranch_observability.names import store as names
from anabranch_store import locks

__all__ = ["SchemaAhead", "upgrade"]

log = get_logger()

# Alembic's `op` is one global: two migrations of one process, of two schemas, would write into each other.
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


class SchemaAhead(RuntimeError):  # noqa: N818  reads as what went wrong
    """The database was migrated by a newer program, or by another service."""


async def upgrade(engine: AsyncEngine, *, path: Path | None, schema: str, package: str) -> None:
    """Bring the database to the newest revision of `package`, in one transaction, under a lock."""
    script = _script(package)
    async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        await _upgrade(engine, path, schema, script)


async def _upgrade(engine: AsyncEngine, path: Path | None, schema: str, script: ScriptDirectory) -> None:
    if engine.dialect.name == "postgresql":
        async with engine.begin() as connection:
            key = locks.advisory_key(schema, "migrate")
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
            await connection.run_sync(_run, script, schema)
        return
    async with locks.exclusive(engine, path=path, schema=schema, name="migrate"), engine.begin() as connection:
        await connection.run_sync(_run, script, schema)


def _run(connection: Connection, script: ScriptDirectory, schema: str) -> None:
    def revisions(current: Any, _context: Any) -> Any:
        return script._upgrade_revs("head", current)  # noqa: SLF001  what `alembic upgrade` itself calls

    with EnvironmentContext(Config(), script, fn=revisions, destination_rev="head") as environment:
        environment.configure(connection=connection, transactional_ddl=True)
        before = environment.get_context().get_current_revision()
        try:
            environment.run_migrations()
        except CommandError as error:
            raise SchemaAhead(f"schema {schema} is at revision {before}, which this program does not have") from error
        after = environment.get_context().get_current_revision()
    if after != before:
        log.info(names.Log.SCHEMA_MIGRATED, schema=schema, before=before, after=after)


def _script(package: str) -> ScriptDirectory:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{package} is not a package with Alembic revisions")
    folder = spec.submodule_search_locations[0]
    return ScriptDirectory(folder, version_locations=[folder])
