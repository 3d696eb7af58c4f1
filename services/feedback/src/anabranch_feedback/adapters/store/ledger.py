"""The ledger in SQL: few statements a transaction, however many feedbacks it settles."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, bindparam, delete, exists, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from anabranch_faults import Transient
from anabranch_feedback.adapters.store.tables import ANSWER_DOCUMENTS, ANSWERS, EVENTS, FEEDBACK, REVIEWS
from anabranch_feedback.application.ports import Channel, Feedback, Kept, Past, Queued, Rejection
from anabranch_feedback.domain.answers import Answer, Known
from anabranch_feedback.domain.names import id_of
from anabranch_feedback.domain.refusals import Refusal
from anabranch_store import Database, Encoded, Outbox

__all__ = ["SqlLedger", "feedback_from", "pack", "review_id_of", "unpack"]

Encode = Callable[[Feedback | Rejection], Encoded]

_REVIEWS: Final = UUID("c1b6f2d4-0a3e-5c7d-8e9f-1a2b3c4d5e6f")
_NAMES: Final = tuple(column.name for column in FEEDBACK.c)
_COLUMNS: Final = [column for column in FEEDBACK.c if column.name != "feedback_id"]
_UPDATE: Final = (
    update(FEEDBACK)
    .where(FEEDBACK.c.feedback_id == bindparam("b_feedback_id"))
    .values({column.name: bindparam(f"b_{column.name}") for column in _COLUMNS})
)
_EMPTY: Final = (
    update(ANSWERS)
    .where(ANSWERS.c.answer_id == bindparam("b_answer_id"), ANSWERS.c.tenant == bindparam("b_tenant"))
    .values(user_id="", has_content=False, record=bindparam("b_record"), cause=bindparam("b_cause"))
)
_UNSEEN: Final = delete(REVIEWS).where(
    REVIEWS.c.answer_id == bindparam("b_answer_id"), REVIEWS.c.tenant == bindparam("b_tenant")
)
_FORGET: Final = 5_000
# Text is most of a record; more effort costs more than the few percent are worth.
_LEVEL: Final = 3


class SqlLedger:
    """As the port says. `encode` makes the events that tell what happened."""

    def __init__(self, database: Database, *, encode: Encode) -> None:
        """Takes a database that is migrated before the first call."""
        self._database = database
        self._encode = encode

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqlBooks]:
        """As in the port."""
        try:
            async with self._database.transaction() as tx:
                yield SqlBooks(tx, self._encode)
        except IntegrityError as error:
            raise Transient("another replica settled the same feedback at the same time") from error

    async def forget(self, *, events_before: datetime, answers_before: datetime) -> int:
        """As in the port: in small steps, so that nobody waits long."""
        about = exists().where(FEEDBACK.c.answer_id == ANSWERS.c.answer_id)
        other = exists().where(FEEDBACK.c.other_answer_id == ANSWERS.c.answer_id)
        old_events = select(EVENTS.c.event_key).where(EVENTS.c.taken_at < events_before).limit(_FORGET)
        old_answers = select(ANSWERS.c.answer_id).where(ANSWERS.c.served_at < answers_before, ~about, ~other)
        gone: int = 0
        while True:
            async with self._database.transaction() as tx:
                events: Any = await tx.execute(delete(EVENTS).where(EVENTS.c.event_key.in_(old_events)))
                ids = list((await tx.execute(old_answers.limit(_FORGET))).scalars())
                for table in (ANSWER_DOCUMENTS, REVIEWS, ANSWERS):
                    await tx.execute(delete(table).where(table.c.answer_id.in_(ids)))
            gone += int(events.rowcount) + len(ids)
            if events.rowcount < _FORGET and len(ids) < _FORGET:
                return gone

    async def waiting(self) -> int:
        """As in the port."""
        async with self._database.reading() as tx:
            statement = select(func.count()).select_from(FEEDBACK).where(FEEDBACK.c.waiting_since.is_not(None))
            return (await tx.execute(statement)).scalar_one()


class SqlBooks:
    """One transaction."""

    def __init__(self, tx: AsyncSession, encode: Encode) -> None:
        self._tx = tx
        self._encode = encode

    async def past(self, event_keys: Iterable[str]) -> dict[str, Past]:
        """As in the port."""
        found = await self._tx.execute(select(EVENTS).where(EVENTS.c.event_key.in_(list(event_keys))))
        return {row.event_key: _past(row) for row in found}

    async def remember(self, events: Sequence[Past], at: datetime) -> None:
        """As in the port."""
        await self._tx.execute(insert(EVENTS), [_event_row(one, at) for one in events])

    async def refuse_later(self, past: Sequence[Past], at: datetime) -> None:
        """As in the port."""
        statement = _insert(self._tx)(EVENTS)
        changed = statement.on_conflict_do_update(
            index_elements=["event_key"],
            set_={name: statement.excluded[name] for name in ("refusal", "reason", "taken_at")},
        )
        await self._tx.execute(changed, [_event_row(one, at) for one in past])

    async def answers(self, answer_ids: Iterable[str]) -> dict[str, list[Known]]:
        """As in the port."""
        ids = list(answer_ids)
        found: dict[str, list[Known]] = {}
        if not ids:
            return found
        columns = (ANSWERS.c.answer_id, ANSWERS.c.tenant, ANSWERS.c.corpus, ANSWERS.c.has_content, ANSWERS.c.cause)
        for row in await self._tx.execute(select(*columns).where(ANSWERS.c.answer_id.in_(ids))):
            known = Known(
                tenant=row.tenant,
                answer_id=row.answer_id,
                corpus=row.corpus,
                has_content=row.has_content,
                cause=unpack(row.cause),
            )
            found.setdefault(row.answer_id, []).append(known)
        return found

    async def add_answers(self, answers: Sequence[Answer]) -> None:
        """As in the port."""
        rows = [
            {
                "answer_id": one.answer_id,
                "tenant": one.tenant,
                "corpus": one.corpus,
                "user_id": one.user_id,
                "variant_id": one.variant_id,
                "served_at": one.served_at,
                "has_content": one.has_content,
                "record": pack(one.record),
                "cause": pack(one.cause),
            }
            for one in answers
        ]
        await self._tx.execute(_insert(self._tx)(ANSWERS).on_conflict_do_nothing(), rows)
        documents = [
            {
                "tenant": one.tenant,
                "corpus": document.corpus,
                "document_id": document.document_id,
                "answer_id": one.answer_id,
                "cited": document.cited,
            }
            for one in answers
            for document in one.documents
        ]
        if documents:
            await self._tx.execute(_insert(self._tx)(ANSWER_DOCUMENTS).on_conflict_do_nothing(), documents)

    async def feedback(self, feedback_ids: Iterable[str]) -> dict[str, Feedback]:
        """As in the port."""
        # In one order, so that two batches cannot wait for each other.
        statement = select(FEEDBACK).where(FEEDBACK.c.feedback_id.in_(sorted(feedback_ids)))
        rows = await self._tx.execute(statement.order_by(FEEDBACK.c.feedback_id).with_for_update())
        return {row.feedback_id: feedback_from(row) for row in rows}

    async def feedback_of(self, tenant: str, user_id: str) -> list[Feedback]:
        """As in the port."""
        statement = select(FEEDBACK).where(
            FEEDBACK.c.tenant == tenant, FEEDBACK.c.user_id == user_id, FEEDBACK.c.withdrawn.is_(False)
        )
        rows = await self._tx.execute(statement.order_by(FEEDBACK.c.feedback_id).with_for_update())
        return [feedback_from(row) for row in rows]

    async def feedback_on(self, tenant: str, user_id: str) -> list[Feedback]:
        """As in the port."""
        asked = select(ANSWERS.c.answer_id).where(ANSWERS.c.tenant == tenant, ANSWERS.c.user_id == user_id)
        statement = select(FEEDBACK).where(
            FEEDBACK.c.tenant == tenant,
            FEEDBACK.c.answer_id.in_(asked),
            FEEDBACK.c.withdrawn.is_(False),
            FEEDBACK.c.joined_at.is_not(None),
        )
        rows = await self._tx.execute(statement.order_by(FEEDBACK.c.feedback_id).with_for_update())
        return [feedback_from(row) for row in rows]

    async def asked_by(self, tenant: str, user_id: str, most: int) -> list[Kept]:
        """As in the port."""
        columns = (ANSWERS.c.tenant, ANSWERS.c.answer_id, ANSWERS.c.record, ANSWERS.c.cause)
        statement = select(*columns).where(ANSWERS.c.tenant == tenant, ANSWERS.c.user_id == user_id)
        rows = await self._tx.execute(statement.order_by(ANSWERS.c.answer_id).limit(most).with_for_update())
        return [
            Kept(tenant=row.tenant, answer_id=row.answer_id, record=unpack(row.record), cause=unpack(row.cause))
            for row in rows
        ]

    async def replace_answers(self, emptied: Sequence[Kept]) -> None:
        """As in the port."""
        rows = [
            {
                "b_tenant": one.tenant,
                "b_answer_id": one.answer_id,
                "b_record": pack(one.record),
                "b_cause": pack(one.cause),
            }
            for one in emptied
        ]
        connection = await self._tx.connection()
        await connection.execute(_EMPTY, rows)
        await connection.execute(_UNSEEN, rows)

    async def waiting_for(self, answer_ids: Iterable[str]) -> list[Feedback]:
        """As in the port."""
        ids = list(answer_ids)
        about = or_(
            FEEDBACK.c.answer_id.in_(ids),
            # Few wait, and fewer for a second answer: the index of those that wait finds them.
            (FEEDBACK.c.other_answer_id != "") & FEEDBACK.c.other_answer_id.in_(ids),
        )
        statement = select(FEEDBACK).where(FEEDBACK.c.waiting_since.is_not(None), about)
        rows = await self._tx.execute(statement.order_by(FEEDBACK.c.feedback_id).with_for_update())
        return [feedback_from(row) for row in rows]

    async def joinable(self, most: int) -> list[Feedback]:
        """As in the port."""
        other = ANSWERS.alias("other")
        own_there = exists().where(ANSWERS.c.answer_id == FEEDBACK.c.answer_id)
        other_there = or_(
            FEEDBACK.c.other_answer_id == "", exists().where(other.c.answer_id == FEEDBACK.c.other_answer_id)
        )
        statement = select(FEEDBACK).where(FEEDBACK.c.waiting_since.is_not(None), own_there, other_there)
        rows = await self._tx.execute(statement.order_by(FEEDBACK.c.feedback_id).limit(most).with_for_update())
        return [feedback_from(row) for row in rows]

    async def overdue(self, before: datetime, most: int) -> list[Feedback]:
        """As in the port."""
        statement = select(FEEDBACK).where(FEEDBACK.c.waiting_since < before)
        rows = await self._tx.execute(statement.order_by(FEEDBACK.c.waiting_since).limit(most).with_for_update())
        return [feedback_from(row) for row in rows]

    async def save(self, *, new: Sequence[Feedback], changed: Sequence[Feedback]) -> None:
        """As in the port."""
        if new:
            await self._tx.execute(insert(FEEDBACK), [_feedback_row(one) for one in new])
        if changed:
            rows = [{f"b_{name}": value for name, value in _feedback_row(one).items()} for one in changed]
            # On the connection: a session would take an update of many for one of mapped objects.
            await (await self._tx.connection()).execute(_UPDATE, rows)

    async def remove(self, feedback_ids: Iterable[str]) -> None:
        """As in the port."""
        await self._tx.execute(delete(FEEDBACK).where(FEEDBACK.c.feedback_id.in_(list(feedback_ids))))

    async def disputed(self, answers: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """As in the port."""
        wanted = set(answers)
        of = (FEEDBACK.c.answer_id, FEEDBACK.c.tenant)
        statement = (
            select(*of)
            .where(FEEDBACK.c.answer_id.in_(sorted(answer_id for _, answer_id in wanted)))
            .group_by(*of)
            .having(func.min(FEEDBACK.c.verdict) < 0, func.max(FEEDBACK.c.verdict) > 0)
        )
        return {(row.tenant, row.answer_id) for row in await self._tx.execute(statement)} & wanted

    async def queue(self, reviews: Sequence[Queued]) -> None:
        """As in the port."""
        rows = [
            {
                "review_id": review_id_of(one.tenant, one.answer_id),
                "tenant": one.tenant,
                "corpus": one.corpus,
                "answer_id": one.answer_id,
                "sampled_by": one.sampled_by,
                "queued_at": one.at,
            }
            for one in reviews
        ]
        if rows:
            await self._tx.execute(_insert(self._tx)(REVIEWS).on_conflict_do_nothing(), rows)

    async def tell(self, joined: Sequence[Feedback], rejected: Sequence[Rejection] = ()) -> None:
        """As in the port."""
        told: list[Feedback | Rejection] = [*joined, *rejected]
        await Outbox.add(self._tx, *(self._encode(one) for one in told))


def pack(message: bytes) -> bytes:
    """Smaller."""
    return zlib.compress(message, _LEVEL)


def unpack(packed: bytes) -> bytes:
    """As it was."""
    return zlib.decompress(packed)


def review_id_of(tenant: str, answer_id: str) -> str:
    """An answer is judged under one id, however often it is sampled."""
    return id_of(_REVIEWS, tenant, answer_id)


def feedback_from(row: Row[Any], *, cause: bytes = b"") -> Feedback:
    """A row of `feedback`; its cause is with the answer."""
    values = {name: getattr(row, name) for name in _NAMES}
    values["channel"] = Channel(row.channel)
    return Feedback(cause=cause, **values)


def _feedback_row(one: Feedback) -> dict[str, Any]:
    return {name: getattr(one, name) for name in _NAMES}


def _past(row: Row[Any]) -> Past:
    return Past(
        event_key=row.event_key,
        tenant=row.tenant,
        feedback_id=row.feedback_id,
        refusal=None if row.refusal is None else Refusal(row.refusal),
        reason=row.reason,
    )


def _event_row(one: Past, at: datetime) -> dict[str, Any]:
    return {
        "event_key": one.event_key,
        "tenant": one.tenant.replace("\x00", ""),
        "feedback_id": one.feedback_id,
        "refusal": one.refusal,
        # PostgreSQL's text takes no NUL, and a refused value may be quoted in it.
        "reason": one.reason.replace("\x00", ""),
        "taken_at": at,
    }


def _insert(tx: AsyncSession) -> Callable[..., Any]:
    return postgresql.insert if tx.get_bind().dialect.name == "postgresql" else sqlite.insert
