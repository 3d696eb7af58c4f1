"""Dropping what is old, in SQL."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Table, and_, delete, select, tuple_

from anabranch_evaluation.adapters.tables import EXPLORATIONS, EXPOSURES, OPINIONS, SCORES, VECTORS, VERDICTS
from anabranch_store import Database

_OLD: Final = (
    (EXPOSURES, EXPOSURES.c.served_at),
    (EXPLORATIONS, EXPLORATIONS.c.served_at),
    (OPINIONS, OPINIONS.c.served_at),
    (SCORES, SCORES.c.scored_at),
    (VERDICTS, VERDICTS.c.judged_at),
    (VECTORS, VECTORS.c.kept_at),
)


class SqlAttic:
    """As the port says."""

    def __init__(self, database: Database) -> None:
        """Takes a database that is migrated before the first call."""
        self._database = database

    async def drop(self, *, before: datetime, keeping: Collection[str], most: int) -> int:
        """As in the port. One transaction a table."""
        whole = 0
        for table, time in _OLD:
            if whole < most:
                whole += await self._drop(table, time, before, keeping, most - whole)
        return whole

    async def _drop(self, table: Table, time: Any, before: datetime, keeping: Collection[str], most: int) -> int:
        key = tuple(table.primary_key.columns)
        old = time < before
        if keeping and "experiment_id" in table.c:
            old = and_(old, table.c.experiment_id.not_in(sorted(keeping)))
        async with self._database.transaction() as tx:
            found = (await tx.execute(select(*key).where(old).order_by(time).limit(most))).all()
            if found:
                await tx.execute(delete(table).where(tuple_(*key).in_([tuple(row) for row in found])))
        return len(found)
