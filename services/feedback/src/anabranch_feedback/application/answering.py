"""Answers' records come in, and feedback that waited for them is joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from anabranch_feedback.application.joining import match, unknown
from anabranch_feedback.application.ports import (
    Books,
    Clock,
    Codec,
    Feedback,
    Ledger,
    Log,
    Past,
    Rejection,
)
from anabranch_feedback.application.sampling import Sampler
from anabranch_feedback.domain.answers import Answer, Known
from anabranch_feedback.domain.refusals import Refused

_MOST = 500


class Joiner:
    """Joins feedback that waited. What comes of it leaves through the outbox."""

    def __init__(self, *, codec: Codec, log: Log, sampler: Sampler) -> None:
        """Takes what it works with."""
        self._codec = codec
        self._log = log
        self._sampler = sampler

    async def join(self, books: Books, waiting: Sequence[Feedback], now: datetime) -> None:
        """Join those whose answers are all there; refuse those that do not fit; leave the rest."""
        if not waiting:
            return
        ids = {row.answer_id for row in waiting} | {row.other_answer_id for row in waiting if row.other_answer_id}
        answers = await books.answers(ids)
        both: list[tuple[Feedback, Known]] = []
        refused: list[tuple[Feedback, Refused]] = []
        for row in waiting:
            try:
                known = match(self._codec.given(row.content), answers, self._codec).answer
            except Refused as fault:
                refused.append((row, fault))
                continue
            if known is None:
                continue
            if row.waiting_since is not None:
                self._log.joined_late(now - row.waiting_since)
            row = replace(row, corpus=known.corpus, cause=known.cause, joined_at=now, waiting_since=None)  # noqa: PLW2901  the same row, now joined
            both.append((row, known))
        joined = [row for row, _ in both]
        await books.save(new=(), changed=joined)
        await self._sampler.joined(books, both, now)
        await books.tell(joined)
        await self.refuse(books, refused, now)

    async def refuse(self, books: Books, refused: Sequence[tuple[Feedback, Refused]], now: datetime) -> None:
        """Give feedback up, and say so."""
        if not refused:
            return
        await books.remove([row.feedback_id for row, _ in refused])
        await books.refuse_later(
            [
                Past(
                    event_key=row.event_key,
                    tenant=row.tenant,
                    feedback_id=row.feedback_id,
                    refusal=fault.why,
                    reason=str(fault)[:1000],
                )
                for row, fault in refused
            ],
            now,
        )
        await books.tell((), [_rejection(row, fault, now) for row, fault in refused])
        for row, fault in refused:
            self._log.refused(fault.why, row.channel)


def _rejection(row: Feedback, fault: Refused, now: datetime) -> Rejection:
    return Rejection(
        tenant=row.tenant,
        answer_id=row.answer_id,
        user_id=row.user_id,
        event_id=row.event_id,
        refusal=fault.why,
        reason=str(fault)[:1000],
        at=now,
    )


class RecordAnswers:
    """Keeps answers' records and samples some of them for raters."""

    def __init__(self, *, ledger: Ledger, joiner: Joiner, clock: Clock, sampler: Sampler) -> None:
        """Takes what it works on."""
        self._ledger = ledger
        self._joiner = joiner
        self._clock = clock
        self._sampler = sampler

    async def __call__(self, answers: Sequence[Answer]) -> None:
        """Keep all; a record that is there already stays as it is."""
        if not answers:
            return
        now = self._clock()
        async with self._ledger.transaction() as books:
            await books.add_answers(answers)
            await self._sampler.recorded(books, answers, now)
            await self._joiner.join(books, await books.waiting_for({answer.answer_id for answer in answers}), now)


class LookAfter:
    """What has to be done now and then."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        joiner: Joiner,
        clock: Clock,
        log: Log,
        wait: timedelta,
        keep: timedelta,
        keep_answers: timedelta,
    ) -> None:
        """Takes the times: `wait` for an answer's record, `keep` events and answers nobody said anything about."""
        self._ledger = ledger
        self._joiner = joiner
        self._clock = clock
        self._log = log
        self._wait = wait
        self._keep = keep
        self._keep_answers = keep_answers

    async def sweep(self) -> None:
        """Join what two replicas missed between them, and give up what waited too long."""
        self._log.waiting(await self._ledger.waiting())
        now = self._clock()
        while True:
            async with self._ledger.transaction() as books:
                waiting = await books.joinable(_MOST)
                await self._joiner.join(books, waiting, now)
                overdue = await books.overdue(now - self._wait, _MOST)
                await self._joiner.refuse(books, [(row, self._late(row)) for row in overdue], now)
            if max(len(waiting), len(overdue)) < _MOST:
                return

    async def forget(self) -> None:
        """Remove what cannot matter any more."""
        now = self._clock()
        await self._ledger.forget(events_before=now - self._keep, answers_before=now - self._keep_answers)

    def _late(self, row: Feedback) -> Refused:
        fault = unknown(row.answer_id)
        return Refused(fault.why, f"{fault.problem}: none turned up within {self._wait}", field=fault.field)
