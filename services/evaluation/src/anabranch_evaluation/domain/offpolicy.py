"""What other thresholds of a cascade would have been worth: doubly robust estimates from answers dealt at random.

An explored question was drafted by the cheap model, and then answered by the cheap or the strong one with probability
one half each, so all that any thresholds would have looked at is known of it, and its own answer counts double where
they would have chosen the same (Dudik, Langford, Li: Doubly robust policy evaluation and learning, 2011). A model of
what people think of either answer, fitted on the other half of the data, takes variance out; wrong, it adds no bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEWEST", "Estimate", "Explored", "Thresholds", "estimates"]

FEWEST: Final = 100
"""Judged answers that an estimate is drawn from at least, of each model half as many."""
GRID: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_PROPENSITY: Final = 0.5
_RIDGE: Final = 1.0

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """An answer whose model was chosen at random, with what people made of it (0 to 1) and what it cost."""

    difficulty: float
    draft_support: float
    strong: bool
    value: float
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Strong at once above `skip_above`; strong after a draft below `escalate_below`; otherwise the draft."""

    skip_above: float
    escalate_below: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What thresholds would have been worth. `keeps`: at least the share asked for of the strong model's worth."""

    thresholds: Thresholds
    value: float
    low: float
    high: float
    cost: float
    strong_share: float
    keeps: bool


STRONG: Final = Thresholds(skip_above=-1.0, escalate_below=0.0)
CHEAP: Final = Thresholds(skip_above=1.0, escalate_below=0.0)


def estimates(answers: Sequence[Explored], *, keep: float, alpha: float = 0.05) -> list[Estimate]:
    """The strong model for all, the cheap one for all, then every pair of the grid, cheapest first.

    Whether a pair `keeps` is told with confidence `1 - alpha` over all pairs together. Answers of both models must be
    there.
    """
    seen = _Seen.of(answers)
    worth = {strong: seen.worth(strong=strong) for strong in (False, True)}
    grid = [Thresholds(skip_above=skip, escalate_below=below) for skip in GRID for below in GRID]
    bound = NormalDist().inv_cdf(1 - alpha / len(grid))
    whole = [_estimate(seen, worth, thresholds, keep=keep, bound=bound) for thresholds in (STRONG, CHEAP, *grid)]
    return [*whole[:2], *sorted(whole[2:], key=lambda one: (one.cost, -one.value))]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    difficulty: _Floats
    support: _Floats
    strong: NDArray[np.bool_]
    value: _Floats
    cost: _Floats

    @classmethod
    def of(cls, answers: Sequence[Explored]) -> _Seen:
        return cls(
            difficulty=np.array([one.difficulty for one in answers]),
            support=np.array([one.draft_support for one in answers]),
            strong=np.array([one.strong for one in answers], dtype=np.bool_),
            value=np.array([one.value for one in answers]),
            cost=np.array([one.cost for one in answers]),
        )

    def worth(self, *, strong: bool) -> _Floats:
        """Each question's doubly robust worth of being answered by this model: unbiased, noisy, not within 0 to 1."""
        own = self.strong == strong
        features = np.column_stack([np.ones_like(self.support), self.difficulty, self.support, self.support**2])
        expected = np.empty_like(self.value)
        halves = np.arange(len(self.value)) % 2 == 0
        for half in (halves, ~halves):
            expected[half] = features[half] @ _fitted(features[own & ~half], self.value[own & ~half])
        return expected + np.where(own, (self.value - expected) / _PROPENSITY, 0.0)

    def mean_cost(self, *, strong: bool) -> float:
        return float(self.cost[self.strong == strong].mean())


def _fitted(features: _Floats, values: _Floats) -> _Floats:
    if not len(values):
        return np.zeros(features.shape[1])
    penalty: Any = _RIDGE * np.eye(features.shape[1])
    penalty[0, 0] = 0.0
    solved: _Floats = np.linalg.solve(features.T @ features + penalty, features.T @ values)
    return solved


def _estimate(
    seen: _Seen, worth: dict[bool, _Floats], thresholds: Thresholds, *, keep: float, bound: float
) -> Estimate:
    skipped = seen.difficulty > thresholds.skip_above
    strong = skipped | (seen.support < thresholds.escalate_below)
    values = np.where(strong, worth[True], worth[False])
    kept = values - keep * worth[True]
    drafted, both = seen.mean_cost(strong=False), seen.mean_cost(strong=True)
    # An explored answer of the strong model was drafted before; where it is skipped to, the draft is not paid for.
    cost = np.where(skipped, both - drafted, np.where(strong, both, drafted))
    half = 1.96 * _error(values)
    value = float(values.mean())
    return Estimate(
        thresholds=thresholds,
        value=value,
        low=value - half,
        high=value + half,
        cost=max(0.0, float(cost.mean())),
        strong_share=float(strong.mean()),
        keeps=bool(kept.mean() - bound * _error(kept) >= 0.0),
    )


def _error(values: _Floats) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("inf")
