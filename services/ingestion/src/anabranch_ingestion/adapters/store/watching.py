"""Statuses as they are written, by whichever replica: one query for all watchers of this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator
from datetime import timedelta

from sqlalchemy import func, select

from anabranch_faults import Transient
from anabranch_ingestion.adapters.store import tables
from anabranch_ingestion.adapters.store.documents import STATUS_WRITTEN
from anabranch_ingestion.adapters.store.tables import DOCUMENTS, STATUSES
from anabranch_ingestion.domain.documents import DocumentKey, Status
from anabranch_store import Database

_Queue = asyncio.Queue[tuple[int, Status]]
# Transactions that overlap may commit in another order than that of their numbers: look this far back.
_OVERLAP = 500
_ROWS = 2_000


class StatusWatch:
    """The `Watching` port. Writes of this process wake it at once, those of other replicas within `poll`."""

    def __init__(self, database: Database, *, poll: timedelta = timedelta(milliseconds=200)) -> None:
        """Reads nothing until somebody watches."""
        self._database = database
        self._poll = poll.total_seconds()
        self._watchers: dict[str, set[_Queue]] = defaultdict(set)
        self._written = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        database.on_commit(STATUS_WRITTEN, self._written.set)

    async def watch(self, key: DocumentKey) -> AsyncGenerator[Status, None]:
        """The present status if there is one, then each that follows, until closed."""
        queue: _Queue = asyncio.Queue()
        name = str(key)
        await self._ensure_reading()
        self._watchers[name].add(queue)
        try:
            seq, present = await self._present(key)
            if present is not None:
                yield present
            while True:
                number, status = await queue.get()
                if number > seq:
                    yield status
        finally:
            self._watchers[name].discard(queue)
            if not self._watchers[name]:
                del self._watchers[name]

    async def close(self) -> None:
        """Stops reading."""
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader

    async def _present(self, key: DocumentKey) -> tuple[int, Status | None]:
        newest = (
            select(STATUSES.c.seq, STATUSES.c.status)
            .where(STATUSES.c.record_key == str(key))
            .order_by(STATUSES.c.seq.desc())
            .limit(1)
        )
        async with self._database.reading() as tx:
            row = (await tx.execute(newest)).first()
            if row is not None:
                return row.seq, tables.status_from(key, row.status)
            kept = (await tx.execute(select(DOCUMENTS.c.last).where(DOCUMENTS.c.record_key == str(key)))).scalar()
        return 0, tables.status_from(key, kept) if kept else None

    async def _ensure_reading(self) -> None:
        if self._reader is None or self._reader.done():
            floor = await self._newest()
            if self._reader is None or self._reader.done():
                self._reader = asyncio.create_task(self._read(floor))

    async def _newest(self) -> int:
        async with self._database.reading() as tx:
            return (await tx.execute(select(func.max(STATUSES.c.seq)))).scalar() or 0

    async def _read(self, newest: int) -> None:
        told: set[int] = set()
        first = newest
        while True:
            self._written.clear()
            overlap = 0 if self._database.dialect == "sqlite" else _OVERLAP
            floor = max(first, newest - overlap)
            with contextlib.suppress(Transient):
                for number, name, text in await self._after(floor):
                    if number in told:
                        continue
                    told.add(number)
                    newest = max(newest, number)
                    self._tell(number, name, text)
            told = {number for number in told if number > newest - _OVERLAP}
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._written.wait(), self._poll)
            if not self._watchers:
                return

    async def _after(self, floor: int) -> list[tuple[int, str, str]]:
        statement = select(STATUSES).where(STATUSES.c.seq > floor).order_by(STATUSES.c.seq).limit(_ROWS)
        async with self._database.reading() as tx:
            return [(row.seq, row.record_key, row.status) for row in await tx.execute(statement)]

    def _tell(self, number: int, name: str, text: str) -> None:
        queues = self._watchers.get(name)
        if queues:
            status = tables.status_from(DocumentKey(*name.split("/", 2)), text)
            for queue in queues:
                queue.put_nowait((number, status))
