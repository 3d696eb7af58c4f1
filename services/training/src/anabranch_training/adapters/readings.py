"""Readings of answers in SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from anabranch_store import Database
from anabranch_training.adapters.tables import READINGS
from anabranch_training.application.drifting import Shown
from anabranch_training.domain.drift import Reading, Signal

__all__ = ["SqlReadings"]


class SqlReadings:
    """As the port says. What the book counts as fresh no longer is from before the last data set."""

    def __init__(self, database: Database) -> None:
        """Takes a database that is migrated before the first call."""
        self._database = database
        self._insert: Any = postgresql.insert if database.dialect == "postgresql" else sqlite.insert

    async def take(self, shown: Sequence[Shown]) -> None:
        """As in the port."""
        first: dict[tuple[str, str], Shown] = {}
        for one in shown:
            first.setdefault((one.tenant, one.answer_id), one)
        gone = {(one.tenant, one.answer_id) for one in shown if one.reading is None}
        kept = [
            {
                "tenant": one.tenant,
                "corpus": one.corpus,
                "answer_id": one.answer_id,
                "reading": json.dumps([one.reading.topic, {str(k): v for k, v in one.reading.numbers.items()}]),
                "counted": False,
            }
            for key, one in first.items()  # in the order they came in, which windows are made of
            if key not in gone and one.reading is not None
        ]
        if not kept and not gone:
            return
        async with self._database.transaction() as tx:
            if kept:
                await tx.execute(self._insert(READINGS).values(kept).on_conflict_do_nothing())
            for tenant, answer_id in sorted(gone):
                await tx.execute(delete(READINGS).where(READINGS.c.tenant == tenant, READINGS.c.answer_id == answer_id))

    async def parted(self, tenant: str, corpus: str) -> int:
        """As in the port."""
        statement = select(func.max(READINGS.c.number)).where(*_here(tenant, corpus, counted=True))
        async with self._database.reading() as tx:
            return int(await tx.scalar(statement) or 0)

    async def before(self, tenant: str, corpus: str, *, most: int) -> Sequence[Reading]:
        """As in the port."""
        statement = select(READINGS.c.reading).where(*_here(tenant, corpus, counted=True))
        async with self._database.reading() as tx:
            found = (await tx.execute(statement.order_by(READINGS.c.number.desc()).limit(most))).scalars().all()
        return [_reading(text) for text in reversed(found)]

    async def since(self, tenant: str, corpus: str, *, after: int) -> Sequence[tuple[int, Reading]]:
        """As in the port."""
        statement = select(READINGS.c.number, READINGS.c.reading).where(
            *_here(tenant, corpus, counted=False), READINGS.c.number > after
        )
        async with self._database.reading() as tx:
            found = (await tx.execute(statement.order_by(READINGS.c.number))).all()
        return [(row.number, _reading(row.reading)) for row in found]


def _here(tenant: str, corpus: str, *, counted: bool) -> tuple[Any, ...]:
    return (READINGS.c.tenant == tenant, READINGS.c.corpus == corpus, READINGS.c.counted.is_(counted))


def _reading(text: str) -> Reading:
    topic, numbers = json.loads(text)
    return Reading(topic=topic, numbers={Signal(name): tuple(values) for name, values in numbers.items()})
