"""Reads what is stored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from anabranch_feedback.adapters.store.ledger import feedback_from, unpack
from anabranch_feedback.adapters.store.tables import ANSWER_DOCUMENTS, ANSWERS, EVENTS, FEEDBACK, REVIEWS
from anabranch_feedback.application.ports import Feedback
from anabranch_feedback.application.reading import (
    AnswerFilter,
    Counts,
    Exported,
    Line,
    Mark,
    RatingFilter,
    ReviewItem,
    Stored,
)
from anabranch_store import Database

__all__ = ["SqlShelf"]

_OWN = (ANSWERS.c.answer_id == FEEDBACK.c.answer_id) & (ANSWERS.c.tenant == FEEDBACK.c.tenant)


class SqlShelf:
    """As the port says."""

    def __init__(self, database: Database) -> None:
        """Takes a database that is migrated before the first call."""
        self._database = database

    async def answer(self, tenant: str, answer_id: str) -> tuple[Stored, list[Feedback]] | None:
        """As in the port."""
        async with self._database.reading() as tx:
            wanted = select(ANSWERS).where(ANSWERS.c.answer_id == answer_id, ANSWERS.c.tenant == tenant)
            row = (await tx.execute(wanted)).first()
            if row is None:
                return None
            said = select(FEEDBACK).where(
                FEEDBACK.c.answer_id == answer_id,
                FEEDBACK.c.tenant == tenant,
                FEEDBACK.c.withdrawn.is_(False),
                FEEDBACK.c.joined_at.is_not(None),
            )
            rows = (await tx.execute(said.order_by(FEEDBACK.c.joined_at, FEEDBACK.c.feedback_id))).all()
        stored = Stored(record=unpack(row.record), cause=unpack(row.cause))
        return stored, [feedback_from(one, cause=stored.cause) for one in rows]

    async def answers(self, which: AnswerFilter, *, count: int, after: Mark | None) -> list[Line]:
        """As in the port."""
        async with self._database.reading() as tx:
            rows = (await tx.execute(_answers_of(which, after).limit(count))).all()
            ids = [row.answer_id for row in rows]
            said = (
                select(FEEDBACK.c.answer_id, func.count())
                .where(
                    FEEDBACK.c.answer_id.in_(ids),
                    FEEDBACK.c.tenant == which.tenant,
                    FEEDBACK.c.withdrawn.is_(False),
                )
                .group_by(FEEDBACK.c.answer_id)
            )
            counts = {answer_id: number for answer_id, number in await tx.execute(said)}  # noqa: C416  rows are no pairs to mypy
        return [
            Line(
                answer_id=row.answer_id,
                corpus=row.corpus,
                variant_id=row.variant_id,
                served_at=row.served_at,
                record=unpack(row.record),
                feedback_count=counts.get(row.answer_id, 0),
                cites_document=bool(row.cites) if which.document_id else None,
            )
            for row in rows
        ]

    async def ratings(
        self, which: RatingFilter, *, count: int, after: Mark | None, with_content: bool
    ) -> list[Exported]:
        """As in the port."""
        columns: list[Any] = [FEEDBACK, ANSWERS.c.cause, *([ANSWERS.c.record] if with_content else [])]
        statement: Select[*tuple[Any, ...]] = (
            select(*columns)
            .join(ANSWERS, _OWN)
            .where(
                FEEDBACK.c.tenant == which.tenant, FEEDBACK.c.withdrawn.is_(False), FEEDBACK.c.joined_at.is_not(None)
            )
        )
        if which.corpus:
            statement = statement.where(FEEDBACK.c.corpus == which.corpus)
        if which.since:
            statement = statement.where(FEEDBACK.c.joined_at >= which.since)
        if which.until:
            statement = statement.where(FEEDBACK.c.joined_at < which.until)
        if after:
            statement = statement.where(_beyond(FEEDBACK.c.joined_at, FEEDBACK.c.feedback_id, after, newer=True))
        statement = statement.order_by(FEEDBACK.c.joined_at, FEEDBACK.c.feedback_id).limit(count)
        async with self._database.reading() as tx:
            rows = (await tx.execute(statement)).all()
            others = await _records(tx, which.tenant, {r.other_answer_id for r in rows}) if with_content else {}
        return [
            Exported(
                rating=feedback_from(row, cause=unpack(row.cause)),
                record=unpack(row.record) if with_content else None,
                other_record=others.get(row.other_answer_id),
            )
            for row in rows
        ]

    async def count(self, tenant: str, corpus: str, since: datetime | None) -> Counts:
        """As in the port."""
        where: list[ColumnElement[bool]] = [FEEDBACK.c.tenant == tenant, FEEDBACK.c.withdrawn.is_(False)]
        joined = [*where, FEEDBACK.c.joined_at.is_not(None)]
        rejected = select(func.count()).where(EVENTS.c.tenant == tenant, EVENTS.c.refusal.is_not(None))
        # What waits has no corpus yet.
        waiting = select(func.count()).where(*where, FEEDBACK.c.waiting_since.is_not(None))
        if corpus:
            joined.append(FEEDBACK.c.corpus == corpus)
        if since:
            joined.append(FEEDBACK.c.given_at >= since)
            waiting = waiting.where(FEEDBACK.c.given_at >= since)
            rejected = rejected.where(EVENTS.c.taken_at >= since)
        users = func.count(func.distinct(FEEDBACK.c.user_id))
        answers = func.count(func.distinct(FEEDBACK.c.answer_id))
        span = select(users, answers, func.min(FEEDBACK.c.given_at), func.max(FEEDBACK.c.given_at)).where(*joined)
        kinds = select(FEEDBACK.c.kind, func.count()).where(*joined).group_by(FEEDBACK.c.kind)
        async with self._database.reading() as tx:
            by_kind = {kind: number for kind, number in await tx.execute(kinds.order_by(FEEDBACK.c.kind))}  # noqa: C416  rows are no pairs to mypy
            totals = (await tx.execute(span)).one()
            return Counts(
                kinds=by_kind,
                users=totals[0],
                answers=totals[1],
                waiting=(await tx.execute(waiting)).scalar_one(),
                rejected=(await tx.execute(rejected)).scalar_one(),
                first_at=totals[2],
                last_at=totals[3],
            )

    async def reviews(self, tenant: str, corpus: str, rater_id: str, *, wanted: int, count: int) -> list[ReviewItem]:
        """As in the port."""
        by = FEEDBACK.alias("by")
        said = (
            (by.c.answer_id == REVIEWS.c.answer_id)
            & (by.c.tenant == REVIEWS.c.tenant)
            & (by.c.kind == "review")
            & by.c.withdrawn.is_(False)
        )
        done = select(func.count()).where(said).correlate(REVIEWS).scalar_subquery()
        mine = select(by.c.feedback_id).where(said, by.c.user_id == rater_id).correlate(REVIEWS).exists()
        statement = (
            select(REVIEWS, ANSWERS.c.record, done.label("done"))
            .join(ANSWERS, (ANSWERS.c.answer_id == REVIEWS.c.answer_id) & (ANSWERS.c.tenant == REVIEWS.c.tenant))
            .where(REVIEWS.c.tenant == tenant, ANSWERS.c.has_content, ~mine, done < wanted)
            .order_by(REVIEWS.c.queued_at, REVIEWS.c.review_id)
            .limit(count)
        )
        if corpus:
            statement = statement.where(REVIEWS.c.corpus == corpus)
        async with self._database.reading() as tx:
            rows = (await tx.execute(statement)).all()
        return [
            ReviewItem(
                review_id=row.review_id,
                answer_id=row.answer_id,
                record=unpack(row.record),
                sampled_by=row.sampled_by,
                reviews_done=row.done,
                queued_at=row.queued_at,
            )
            for row in rows
        ]

    async def review(self, tenant: str, review_id: str) -> str | None:
        """As in the port."""
        async with self._database.reading() as tx:
            wanted = select(REVIEWS.c.answer_id).where(REVIEWS.c.review_id == review_id, REVIEWS.c.tenant == tenant)
            return (await tx.execute(wanted)).scalar_one_or_none()

    async def reviewed(self, tenant: str, corpus: str) -> list[Feedback]:
        """As in the port."""
        statement = select(FEEDBACK).where(
            FEEDBACK.c.tenant == tenant, FEEDBACK.c.kind == "review", FEEDBACK.c.withdrawn.is_(False)
        )
        if corpus:
            statement = statement.where(FEEDBACK.c.corpus == corpus)
        async with self._database.reading() as tx:
            return [feedback_from(row) for row in await tx.execute(statement.order_by(FEEDBACK.c.feedback_id))]


def _answers_of(which: AnswerFilter, after: Mark | None) -> Select[*tuple[Any, ...]]:
    columns: list[Any] = [ANSWERS]
    statement: Select[*tuple[Any, ...]]
    if which.document_id:
        drawn = (ANSWER_DOCUMENTS.c.answer_id == ANSWERS.c.answer_id) & (ANSWER_DOCUMENTS.c.tenant == ANSWERS.c.tenant)
        statement = select(*columns, ANSWER_DOCUMENTS.c.cited.label("cites")).join(ANSWER_DOCUMENTS, drawn)
        statement = statement.where(
            ANSWER_DOCUMENTS.c.tenant == which.tenant, ANSWER_DOCUMENTS.c.document_id == which.document_id
        )
        statement = statement.where(ANSWER_DOCUMENTS.c.corpus == (which.corpus or ANSWERS.c.corpus))
    else:
        statement = select(*columns)
    statement = statement.where(ANSWERS.c.tenant == which.tenant)
    for column, value in (
        (ANSWERS.c.corpus, which.corpus),
        (ANSWERS.c.user_id, which.user_id),
        (ANSWERS.c.variant_id, which.variant_id),
    ):
        if value:
            statement = statement.where(column == value)
    if after:
        statement = statement.where(_beyond(ANSWERS.c.served_at, ANSWERS.c.answer_id, after, newer=False))
    return statement.order_by(ANSWERS.c.served_at.desc(), ANSWERS.c.answer_id.desc())


def _beyond(at: Any, id_: Any, mark: Mark, *, newer: bool) -> ColumnElement[bool]:
    here = tuple_(at, id_)
    there = tuple_(mark.at, mark.id, types=[at.type, id_.type])
    return here > there if newer else here < there


async def _records(tx: AsyncSession, tenant: str, answer_ids: set[str]) -> dict[str, bytes]:
    wanted = select(ANSWERS.c.answer_id, ANSWERS.c.record).where(
        ANSWERS.c.tenant == tenant, ANSWERS.c.answer_id.in_(sorted(answer_ids - {""}))
    )
    return {row.answer_id: unpack(row.record) for row in await tx.execute(wanted)}
