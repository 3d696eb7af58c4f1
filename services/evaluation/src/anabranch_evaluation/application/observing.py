"""Taking in answers as they are served: exposures, and the live scores of some."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from anabranch_evaluation.application.datasets import Clock, utc_now
from anabranch_evaluation.domain.costs import Cost, Prices, Usage
from anabranch_evaluation.domain.experiments import Exposure
from anabranch_evaluation.domain.scoring import Scores, score_answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A passage that the answer was drawn from."""

    chunk_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An answer as it was served. `exposure` is None outside experiments; `readable`: its content was recorded."""

    tenant: str
    answer_id: str
    corpus: str
    variant_id: str
    experiment_id: str
    arm: str
    user_id: str
    readable: bool
    question: str
    answer: str
    abstained: bool
    contexts: Sequence[Context]
    cited: Sequence[str]
    latency: timedelta
    exposure: Exposure | None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredAnswer:
    """An answer with its live scores."""

    served: Served
    found: Scores
    scored_at: datetime
    cost: Cost | None = None


class AnswerLog(Protocol):
    """Exposures, and scores that are told once."""

    async def record(self, exposures: Sequence[tuple[Exposure, Scores | None]], scored: Sequence[ScoredAnswer]) -> None:
        """Stores all and tells the scores; what is there already stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserveAnswers:
    """Every exposure is kept; a sampled share of answers is scored, and all that expose somebody to an experiment.

    `sample`: share from 0 to 1, drawn by the answer's id: every replica draws the same.
    """

    log: AnswerLog
    sample: float
    prices: Prices
    now: Clock = utc_now

    async def __call__(self, answers: Sequence[Served]) -> None:
        """Takes in a batch."""
        chosen = [one for one in answers if one.readable and self._sampled(one)]
        scores = await asyncio.to_thread(lambda: [_scored(one) for one in chosen])
        found = {(one.tenant, one.answer_id): score for one, score in zip(chosen, scores, strict=True)}
        at = self.now()
        await self.log.record(
            [
                (_priced(one.exposure, self.prices.cost(one.usage)), found.get((one.tenant, one.answer_id)))
                for one in answers
                if one.exposure is not None
            ],
            [
                ScoredAnswer(served=one, found=score, scored_at=at, cost=self.prices.cost(one.usage))
                for one, score in zip(chosen, scores, strict=True)
            ],
        )

    def _sampled(self, one: Served) -> bool:
        digest = hashlib.sha256(f"{one.tenant}\n{one.answer_id}".encode()).digest()
        return one.exposure is not None or int.from_bytes(digest[:8]) < self.sample * 2**64


def _scored(one: Served) -> Scores:
    return score_answer(
        one.question,
        one.answer,
        [context.text for context in one.contexts],
        cited=one.cited,
        abstained=one.abstained,
    )


def _priced(exposure: Exposure, cost: Cost | None) -> Exposure:
    if cost is None:
        return exposure
    return replace(exposure, tokens=cost.tokens, microdollars=cost.microdollars)
