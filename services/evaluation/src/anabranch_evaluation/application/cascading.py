"""Cascades: what was explored, and what it says of other thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from anabranch_evaluation.domain.costs import MICRODOLLARS, TOKENS
from anabranch_evaluation.domain.offpolicy import FEWEST, Estimate, Explored, estimates
from anabranch_faults import Conflict, Invalid

__all__ = ["CascadeReport", "EstimateCascade", "Exploration", "Explorations", "TooFew"]

KEEP = 0.95


class TooFew(Conflict):
    """Not enough judged answers to say anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """An answer whose model was chosen at random, as it was served."""

    tenant: str
    answer_id: str
    corpus: str
    variant_id: str
    served_at: datetime
    difficulty: float
    draft_support: float
    strong: bool
    tokens: float
    microdollars: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One of them with what people made of it: the mean of its kinds of feedback, 0 to 1."""

    exploration: Exploration
    value: float


class Explorations(Protocol):
    """Where they are kept. Raises Transient, Unreachable."""

    async def keep(self, explorations: Sequence[Exploration]) -> None:
        """Keeps all; what is there already stays as it is."""

    async def judged(
        self, *, tenant: str, corpus: str, variant_id: str, since: datetime | None, most: int
    ) -> Sequence[Judged]:
        """Those that people judged, the newest `most`; empty names match all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeReport:
    """All for the strong model, all for the cheap one, the best pair of thresholds that keeps enough, every pair."""

    strong: Estimate
    cheap: Estimate
    best: Estimate | None
    estimates: Sequence[Estimate]
    answers: int
    cost_unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateCascade:
    """Says what other thresholds would have been worth and cost."""

    explorations: Explorations
    most: int = 100_000

    async def __call__(
        self, *, tenant: str, corpus: str = "", variant_id: str = "", since: datetime | None = None, keep: float = 0.0
    ) -> CascadeReport:
        """Raises Invalid for a share that is none, TooFew."""
        if not tenant:
            raise Invalid("is empty", field="tenant")
        if not 0.0 <= keep <= 1.0:
            raise Invalid(f"is {keep:g}, and a share is between 0 and 1", field="keep")
        found = await self.explorations.judged(
            tenant=tenant, corpus=corpus, variant_id=variant_id, since=since, most=self.most
        )
        strong = sum(one.exploration.strong for one in found)
        if len(found) < FEWEST or min(strong, len(found) - strong) < FEWEST // 2:
            raise TooFew(
                f"{len(found)} answers that were dealt at random have been judged, {strong} of them the strong "
                f"model's; {FEWEST} are needed, half of them each model's: raise the cascade's `explore`, or wait"
            )
        # Either all in money or all in tokens.
        priced = all(one.exploration.microdollars is not None for one in found)
        strong_all, cheap_all, *rest = estimates(
            [
                Explored(
                    difficulty=one.exploration.difficulty,
                    draft_support=one.exploration.draft_support,
                    strong=one.exploration.strong,
                    value=one.value,
                    cost=(one.exploration.microdollars or 0.0) if priced else one.exploration.tokens,
                )
                for one in found
            ],
            keep=keep or KEEP,
        )
        return CascadeReport(
            strong=strong_all,
            cheap=cheap_all,
            best=next((one for one in rest if one.keeps and one.cost < strong_all.cost), None),
            estimates=rest,
            answers=len(found),
            cost_unit=MICRODOLLARS if priced else TOKENS,
        )
