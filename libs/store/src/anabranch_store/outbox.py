"""Events that leave if, and only if, the transaction that decided them was committed."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import uniform
from typing import Any, Final, Protocol

from sqlalchemy import MetaData, Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from anabranch_faults import Invalid, Transient
from anabranch_observability import counter, gauge, get_logger, histogram
from anabranch_observability.names import store as names
from anabranch_store.database import Database
from anabranch_store.tables import outbox_table

__all__ = ["Encoded", "Outbox", "OutboxRelay", "Stored"]

log = get_logger()

_TABLE: Final = outbox_table(MetaData())
_WRITTEN: Final = "anabranch_store.outbox"


class Encoded(Protocol):
    """A record ready for the broker, as `anabranch_bus.Event.encode()` makes it."""

    @property
    def topic(self) -> str: ...  # noqa: D102  the names say it
    @property
    def key(self) -> bytes: ...  # noqa: D102  as above
    @property
    def value(self) -> bytes: ...  # noqa: D102  as above
    @property
    def headers(self) -> tuple[tuple[str, bytes], ...]: ...  # noqa: D102  as above


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A record read back from the outbox; satisfies Encoded."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


Publish = Callable[[Sequence[Any]], Awaitable[None]]
"""`Bus.publish_encoded`: returns when the broker has acknowledged all of them, in order for each key."""


class Outbox:
    """Writes events into the transaction that decides them."""

    @staticmethod
    async def add(tx: AsyncSession, *events: Encoded) -> None:
        """Publish these when, and only when, `tx` is committed.

        Events of one key leave in the order in which their transactions wrote them; writers of one key must exclude
        each other (by the row they change), as they do anyway.
        """
        if not events:
            return
        now = datetime.now(UTC)
        rows = [
            {
                "topic": one.topic,
                "record_key": one.key,
                "value": one.value,
                "headers": json.dumps([[name, base64.b64encode(value).decode()] for name, value in one.headers]),
                "written_at": now,
            }
            for one in events
        ]
        await tx.execute(insert(_TABLE), rows)
        tx.info[_WRITTEN] = True


class OutboxRelay:
    """Publishes what the outbox holds: in order, at least once, with the event ids fixed when written.

    Replicas take turns under a lock of the database, so the order of a key holds over all of them. A crash
    between publishing and removing publishes the same bytes again.
    """

    def __init__(
        self,
        database: Database,
        publish: Publish,
        *,
        batch: int = 500,
        poll: timedelta = timedelta(seconds=1),
        max_backoff: timedelta = timedelta(seconds=5),
    ) -> None:
        """Hears of every committed `Outbox.add` of this process; `poll` finds those of replicas that died."""
        self._database = database
        self._publish = publish
        self._batch = batch
        self._poll = poll.total_seconds()
        self._max_backoff = max_backoff.total_seconds()
        self._written = asyncio.Event()
        database.on_commit(_WRITTEN, self.notify)

    def notify(self) -> None:
        """There is something to publish. Committed transactions of this process do so by themselves."""
        self._written.set()

    async def run(self) -> None:
        """Publish until cancelled. Outages of broker and database are waited out; a bug is raised."""
        failures = 0
        told = False
        while True:
            self._written.clear()
            try:
                # Replicas that only look round do not queue for the lock.
                if told or await self._any():
                    await self.drain()
            except Transient as fault:
                failures += 1
                pause = uniform(0.5, 1.0) * min(0.05 * 2**failures, self._max_backoff)  # noqa: S311  jitter, not a secret
                log.warning(names.Log.OUTBOX_PUBLISH_FAILED, problem=str(fault), failures=failures)
                await asyncio.sleep(pause)
                continue
            if failures:
                log.info(names.Log.OUTBOX_RECOVERED, failures=failures)
                failures = 0
            try:
                told = await asyncio.wait_for(self._written.wait(), self._poll)
            except TimeoutError:
                told = False
                await self._measure()

    async def drain(self) -> int:
        """Publish all there is; gives how many. Raises Transient (nothing is lost) when it cannot."""
        published = 0
        async with self._database.exclusive("outbox"):
            while rows := await self._next():
                await self._send(rows)
                published += len(rows)
                if len(rows) < self._batch:
                    break
        return published

    async def _any(self) -> bool:
        async with self._database.reading() as tx:
            found = await tx.execute(select(_TABLE.c.id).where(_TABLE.c.refused.is_(None)).limit(1))
            return found.first() is not None

    async def _next(self) -> Sequence[Row[Any]]:
        async with self._database.reading() as tx:
            statement = select(_TABLE).where(_TABLE.c.refused.is_(None)).order_by(_TABLE.c.id).limit(self._batch)
            return (await tx.execute(statement)).all()

    async def _send(self, rows: Sequence[Row[Any]]) -> None:
        if not rows:
            return
        try:
            await self._publish([_stored(row) for row in rows])
        except Invalid as fault:
            if len(rows) > 1:
                for row in rows:
                    await self._send([row])
            else:
                await self._refuse(rows[0], fault)
            return
        await self._remove(rows)

    async def _remove(self, rows: Sequence[Row[Any]]) -> None:
        async with self._database.transaction() as tx:
            await tx.execute(delete(_TABLE).where(_TABLE.c.id.in_([row.id for row in rows])))
        now = datetime.now(UTC)
        counter(names.OUTBOX_PUBLISHED).inc(len(rows))
        for row in rows:
            histogram(names.OUTBOX_DELAY_SECONDS).observe(max((now - row.written_at).total_seconds(), 0.0))

    async def _refuse(self, row: Row[Any], fault: Invalid) -> None:
        # It can never be published and must hold up nobody: it stays, with its reason, for a person to look at.
        log.error(names.Log.OUTBOX_REFUSED, topic=row.topic, outbox_id=row.id, problem=str(fault))
        async with self._database.transaction() as tx:
            await tx.execute(update(_TABLE).where(_TABLE.c.id == row.id).values(refused=str(fault)[:1000]))

    async def _measure(self) -> None:
        async with self._database.reading() as tx:
            left = await tx.execute(select(func.count()).select_from(_TABLE))
            gauge(names.OUTBOX_PENDING).set(left.scalar_one())


def _stored(row: Row[Any]) -> Stored:
    headers = tuple((name, base64.b64decode(value)) for name, value in json.loads(row.headers))
    return Stored(topic=row.topic, key=row.record_key, value=row.value, headers=headers)
