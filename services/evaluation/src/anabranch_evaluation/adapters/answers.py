"""Exposures and live scores in SQL; scores leave through the outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from anabranch_evaluation.adapters.tables import EXPOSURES, SCORES, WAITING
from anabranch_evaluation.adapters.waiting import waiting_row
from anabranch_evaluation.application.observing import ScoredAnswer
from anabranch_evaluation.domain.experiments import Exposure
from anabranch_evaluation.domain.scoring import Scores
from anabranch_faults import NotFound
from anabranch_store import Database, Encoded, Outbox


class SqlAnswerLog:
    """As the port says. `encode` makes the event that tells a score."""

    def __init__(self, database: Database, *, encode: Callable[[ScoredAnswer], Encoded]) -> None:
        """Takes a database that is migrated before the first call."""
        self._database = database
        self._encode = encode
        self._insert: Any = postgresql.insert if database.dialect == "postgresql" else sqlite.insert

    async def record(
        self,
        exposures: Sequence[tuple[Exposure, Scores | None]],
        scored: Sequence[ScoredAnswer],
        *,
        waiting: Sequence[ScoredAnswer] = (),
    ) -> None:
        """As in the port."""
        if not exposures and not scored and not waiting:
            return
        async with self._database.transaction() as tx:
            for exposure, found in sorted(exposures, key=lambda pair: (pair[0].tenant, pair[0].answer_id)):
                scores = found.scores if found is not None else {}
                row = {
                    **asdict(exposure),
                    "latency": exposure.latency.total_seconds(),
                    "groundedness": scores.get("groundedness"),
                    "citation_precision": scores.get("citation_precision"),
                }
                await tx.execute(self._insert(EXPOSURES).values(row).on_conflict_do_nothing())
            for one in sorted(scored, key=lambda one: (one.served.tenant, one.served.answer_id)):
                event = self._encode(one)
                row = {
                    "tenant": one.served.tenant,
                    "answer_id": one.served.answer_id,
                    "message": event.value,
                    "scored_at": one.scored_at,
                }
                statement = self._insert(SCORES).values(row).on_conflict_do_nothing().returning(SCORES.c.answer_id)
                if (await tx.execute(statement)).first() is not None:
                    await Outbox.add(tx, event)
            for one in sorted(waiting, key=lambda one: (one.served.tenant, one.served.answer_id)):
                told = select(SCORES.c.answer_id).where(
                    SCORES.c.tenant == one.served.tenant, SCORES.c.answer_id == one.served.answer_id
                )
                if (await tx.execute(told)).first() is None:
                    row = waiting_row(one, self._encode(one).value)
                    await tx.execute(self._insert(WAITING).values(row).on_conflict_do_nothing())

    async def backlog(self) -> int:
        """As in the port."""
        async with self._database.reading() as tx:
            return int(await tx.scalar(select(func.count()).select_from(WAITING)) or 0)

    async def scored(self, tenant: str, answer_id: str) -> bytes:
        """The AnswerScored that was told. Raises NotFound for an answer that was not sampled."""
        statement = select(SCORES.c.message).where(SCORES.c.tenant == tenant, SCORES.c.answer_id == answer_id)
        async with self._database.reading() as tx:
            found = await tx.scalar(statement)
        if found is None:
            raise NotFound(f"the answer {answer_id} was not sampled, or is not there yet", field="answer_id")
        return bytes(found)
