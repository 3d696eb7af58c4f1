"""Some answers are put before raters: by chance, by what people made of them, by how they were scored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from anabranch_feedback.application.ports import Books, Clock, Feedback, Ledger, Queued
from anabranch_feedback.domain.answers import Answer, Known
from anabranch_feedback.domain.sampling import Bars, Scored, Shares, sampled


class Sampler:
    """Chooses. An answer is queued once, under what spoke for it first."""

    def __init__(self, shares: Shares) -> None:
        """Takes the policy."""
        self._shares = shares

    async def recorded(self, books: Books, answers: Iterable[Answer], now: datetime) -> None:
        """Answers' records came."""
        found: list[Queued] = []
        for answer in answers:
            if not answer.has_content:
                continue
            if answer.abstained and sampled(answer.answer_id, "abstained", self._shares.abstained):
                found.append(_queued(answer, "abstained", now))
            elif sampled(answer.answer_id, "random", self._shares.random):
                found.append(_queued(answer, "random", now))
        await books.queue(found)

    async def joined(self, books: Books, joined: Sequence[tuple[Feedback, Known]], now: datetime) -> None:
        """Feedback was stored with its answer."""
        shares = self._shares
        found: list[Queued] = []
        perhaps: dict[tuple[str, str], Known] = {}
        for row, known in joined:
            if row.verdict == 0 or not known.has_content:
                continue
            if row.kind == "thumb-down" and sampled(known.answer_id, "thumb-down", shares.thumb_down):
                found.append(_queued(known, "thumb-down", now))
            elif sampled(known.answer_id, "disagreement", shares.disagreement):
                perhaps[known.tenant, known.answer_id] = known
        if perhaps:
            found += [_queued(perhaps[one], "disagreement", now) for one in sorted(await books.disputed(perhaps))]
        await books.queue(found)


class SampleScored:
    """Puts answers before raters that scored low, or over which the judge's votes disagree."""

    def __init__(self, *, ledger: Ledger, clock: Clock, shares: Shares, bars: Bars) -> None:
        """Takes what it works on, and the policy."""
        self._ledger = ledger
        self._clock = clock
        self._shares = shares
        self._bars = bars

    async def __call__(self, scored: Sequence[Scored]) -> None:
        """An answer whose record is not there yet is seen by raters when it is."""
        now = self._clock()
        found = [_queued(one, why, now) for one in scored if (why := self._bars.why(one, self._shares))]
        if found:
            async with self._ledger.transaction() as books:
                await books.queue(found)


def _queued(one: Answer | Known | Scored, why: str, now: datetime) -> Queued:
    return Queued(tenant=one.tenant, corpus=one.corpus, answer_id=one.answer_id, sampled_by=why, at=now)
