"""What waits for the judge, and what it said before, in SQL."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from anabranch_evaluation.adapters.tables import SCORES, VERDICTS, WAITING
from anabranch_evaluation.application.judging import Waiting
from anabranch_evaluation.application.observing import ScoredAnswer
from anabranch_evaluation.domain.judging import Judgment
from anabranch_store import Database, Encoded, Outbox


def waiting_row(one: ScoredAnswer, message: bytes) -> dict[str, Any]:
    """The row of an answer that waits: `message` is what is told of it when the judge says nothing."""
    served = one.served
    material = {
        "question": served.question,
        "answer": served.answer,
        "contexts": [context.text for context in served.contexts],
    }
    return {
        "tenant": served.tenant,
        "answer_id": served.answer_id,
        "message": message,
        "material": zlib.compress(json.dumps(material, ensure_ascii=False).encode()),
        "since": one.scored_at,
        "free_from": one.scored_at,
    }


class SqlWaitingAnswers:
    """As the port says. `encode` makes the event that tells a message of scores with a judgment in it."""

    def __init__(self, database: Database, *, encode: Callable[[bytes, Judgment | None], Encoded]) -> None:
        """Takes a database that is migrated before the first call."""
        self._database = database
        self._encode = encode
        self._insert: Any = postgresql.insert if database.dialect == "postgresql" else sqlite.insert

    async def take(self, count: int, *, now: datetime, lease: timedelta) -> Sequence[Waiting]:
        """As in the port."""
        oldest = (
            select(WAITING.c.number).where(WAITING.c.free_from <= now).order_by(WAITING.c.number).limit(count)
        ).scalar_subquery()
        statement = (
            update(WAITING)
            # Said again: where two replicas take at once, the second one looks at what the first one left.
            .where(WAITING.c.number.in_(oldest), WAITING.c.free_from <= now)
            .values(free_from=now + lease)
            .returning(WAITING)
        )
        async with self._database.reading() as tx:
            idle = (await tx.execute(select(WAITING.c.number).where(WAITING.c.free_from <= now).limit(1))).first()
        if idle is None:  # nothing is written while nothing waits
            return []
        async with self._database.transaction() as tx:
            rows = (await tx.execute(statement)).all()
        return [_waiting(row) for row in sorted(rows, key=lambda row: int(row.number))]

    async def put_back(self, waiting: Waiting, *, until: datetime) -> None:
        """As in the port."""
        async with self._database.transaction() as tx:
            await tx.execute(update(WAITING).where(*_is(waiting)).values(free_from=until))

    async def tell(self, waiting: Waiting, judgment: Judgment | None) -> bool:
        """As in the port."""
        async with self._database.transaction() as tx:
            gone = delete(WAITING).where(*_is(waiting)).returning(WAITING.c.message, WAITING.c.since)
            row = (await tx.execute(gone)).first()
            if row is None:
                return False
            event = self._encode(bytes(row.message), judgment)
            values = {
                "tenant": waiting.tenant,
                "answer_id": waiting.answer_id,
                "message": event.value,
                "scored_at": row.since,
            }
            statement = self._insert(SCORES).values(values).on_conflict_do_nothing().returning(SCORES.c.answer_id)
            if (await tx.execute(statement)).first() is None:
                return False
            await Outbox.add(tx, event)
            return True


class SqlVerdicts:
    """As the port says."""

    def __init__(self, database: Database) -> None:
        """Takes a database that is migrated before the first call."""
        self._database = database
        self._insert: Any = postgresql.insert if database.dialect == "postgresql" else sqlite.insert

    async def known(self, digests: Sequence[str]) -> Mapping[str, str]:
        """As in the port."""
        statement = select(VERDICTS.c.digest, VERDICTS.c.verdict).where(VERDICTS.c.digest.in_(set(digests)))
        async with self._database.reading() as tx:
            return {row.digest: row.verdict for row in await tx.execute(statement)}

    async def keep(self, verdicts: Mapping[str, str], *, at: datetime) -> None:
        """As in the port."""
        rows = [{"digest": digest, "verdict": verdicts[digest], "judged_at": at} for digest in sorted(verdicts)]
        async with self._database.transaction() as tx:
            await tx.execute(self._insert(VERDICTS).values(rows).on_conflict_do_nothing())


def _is(waiting: Waiting) -> tuple[Any, Any]:
    return (WAITING.c.tenant == waiting.tenant, WAITING.c.answer_id == waiting.answer_id)


def _waiting(row: Any) -> Waiting:
    material = json.loads(zlib.decompress(row.material))
    return Waiting(
        tenant=row.tenant,
        answer_id=row.answer_id,
        question=material["question"],
        answer=material["answer"],
        contexts=material["contexts"],
        since=row.since,
    )
