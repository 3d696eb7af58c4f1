"""Taking in answers as they are served: exposures, and the live scores of some."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from anabranch_evaluation.application.datasets import Clock, utc_now
from anabranch_evaluation.application.scoring import Material, ScoreAnswers
from anabranch_evaluation.domain.costs import Cost, Prices, Usage
from anabranch_evaluation.domain.experiments import Exposure
from anabranch_evaluation.domain.scoring import Scores

LONGEST_QUEUE: Final = 1_000
"""Answers that wait for the judge at most."""


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

    async def record(
        self,
        exposures: Sequence[tuple[Exposure, Scores | None]],
        scored: Sequence[ScoredAnswer],
        *,
        waiting: Sequence[ScoredAnswer] = (),
    ) -> None:
        """Stores all and tells the scores, those of `waiting` once the judge has seen them.

        What is there already stays as it is.
        """

    async def backlog(self) -> int:
        """How many answers wait for the judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserveAnswers:
    """Every exposure is kept; a sampled share of answers is scored, and all that expose somebody to an experiment.

    `sample`: share from 0 to 1, drawn by the answer's id: every replica draws the same. `judged`: share of those scored
    that the judge is to see; while too many wait for it, further ones are told without.
    """

    log: AnswerLog
    sample: float
    prices: Prices
    score: ScoreAnswers = field(default_factory=ScoreAnswers)
    judged: float = 0.0
    now: Clock = utc_now

    async def __call__(self, answers: Sequence[Served]) -> None:
        """Takes in a batch."""
        chosen = [one for one in answers if one.readable and self._sampled(one)]
        scores = await self.score([_material(one) for one in chosen])
        found = {(one.tenant, one.answer_id): score for one, score in zip(chosen, scores, strict=True)}
        at = self.now()
        scored = [
            ScoredAnswer(served=one, found=score, scored_at=at, cost=self.prices.cost(one.usage))
            for one, score in zip(chosen, scores, strict=True)
        ]
        drawn = [one for one in scored if one.found.scores and _drawn(one.served, self.judged, lot="judge\n")]
        waiting = drawn if drawn and await self.log.backlog() < LONGEST_QUEUE else []
        await self.log.record(
            [
                (_priced(one.exposure, self.prices.cost(one.usage)), found.get((one.tenant, one.answer_id)))
                for one in answers
                if one.exposure is not None
            ],
            [one for one in scored if one not in waiting],
            waiting=waiting,
        )

    def _sampled(self, one: Served) -> bool:
        return one.exposure is not None or _drawn(one, self.sample)


def _drawn(one: Served, share: float, *, lot: str = "") -> bool:
    """By the answer's id, another draw for each lot."""
    digest = hashlib.sha256(f"{lot}{one.tenant}\n{one.answer_id}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def _material(one: Served) -> Material:
    return Material(
        question=one.question,
        answer=one.answer,
        contexts=[context.text for context in one.contexts],
        cited=one.cited,
        abstained=one.abstained,
    )


def _priced(exposure: Exposure, cost: Cost | None) -> Exposure:
    if cost is None:
        return exposure
    return replace(exposure, tokens=cost.tokens, microdollars=cost.microdollars)
