"""Explored answers in SQL, with what people made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from anabranch_evaluation.adapters.tables import EXPLORATIONS, OPINIONS
from anabranch_evaluation.application.cascading import Exploration, Judged
from anabranch_store import Database


class SqlExplorations:
    """As the port says."""

    def __init__(self, database: Database) -> None:
        """Takes a database that is migrated before the first call."""
        self._database = database
        self._insert: Any = postgresql.insert if database.dialect == "postgresql" else sqlite.insert

    async def keep(self, explorations: Sequence[Exploration]) -> None:
        """As in the port."""
        if not explorations:
            return
        rows = [asdict(one) for one in sorted(explorations, key=lambda one: (one.tenant, one.answer_id))]
        async with self._database.transaction() as tx:
            await tx.execute(self._insert(EXPLORATIONS).values(rows).on_conflict_do_nothing())

    async def judged(
        self, *, tenant: str, corpus: str, variant_id: str, since: datetime | None, most: int
    ) -> Sequence[Judged]:
        """As in the port."""
        table = EXPLORATIONS
        here = table.c.tenant == tenant
        for column, wanted in ((table.c.corpus, corpus), (table.c.variant_id, variant_id)):
            if wanted:
                here &= column == wanted
        if since is not None:
            here &= table.c.served_at >= since
        by_kind = (
            select(OPINIONS.c.tenant, OPINIONS.c.answer_id, func.avg(OPINIONS.c.value).label("value"))
            .where(OPINIONS.c.tenant == tenant, OPINIONS.c.value.is_not(None))
            .group_by(OPINIONS.c.tenant, OPINIONS.c.answer_id, OPINIONS.c.kind)
        ).subquery()
        by_answer = (
            select(by_kind.c.answer_id, func.avg(by_kind.c.value).label("value")).group_by(by_kind.c.answer_id)
        ).subquery()
        statement = (
            select(table, by_answer.c.value)
            .join(by_answer, by_answer.c.answer_id == table.c.answer_id)
            .where(here)
            .order_by(table.c.served_at.desc(), table.c.answer_id)
            .limit(most)
        )
        async with self._database.reading() as tx:
            rows = (await tx.execute(statement)).mappings().all()
        return [
            Judged(
                exploration=Exploration(**{name: value for name, value in row.items() if name != "value"}),
                value=float(row["value"]),
            )
            for row in rows
        ]
