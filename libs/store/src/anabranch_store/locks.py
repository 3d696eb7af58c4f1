"""Locks that replicas of one service share: an advisory lock in PostgreSQL, a locked file beside SQLite's."""

from __future__ import annotations

import asyncio
import fcntl
import os
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["advisory_key", "exclusive"]

_RETRY_SECONDS: Final = 0.005
_RETRY_MAX_SECONDS: Final = 0.1


def advisory_key(schema: str, name: str) -> int:
    """A PostgreSQL advisory lock's number: the product's in the upper half, the lock's in the lower."""
    return (0x0A4A << 32) | zlib.crc32(f"{schema}/{name}".encode())


@asynccontextmanager
async def exclusive(engine: AsyncEngine, *, path: Path | None, schema: str, name: str) -> AsyncIterator[None]:
    """Hold the lock while the block runs. It ends with the connection or the process that holds it."""
    if engine.dialect.name == "postgresql":
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": advisory_key(schema, name)})
            yield
    elif path is None:
        yield  # a database in memory has one process
    else:
        descriptor = os.open(path.with_name(f"{path.name}.{name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await _flock(descriptor)
            yield
        finally:
            os.close(descriptor)


async def _flock(descriptor: int) -> None:
    pause = _RETRY_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Not in a thread: a thread that waits in flock could not be cancelled.
            await asyncio.sleep(pause)
            pause = min(pause * 2, _RETRY_MAX_SECONDS)
        else:
            return
