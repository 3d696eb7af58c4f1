"""Whether people were split as asked for: a test that may be looked at after every person.

The counts n of arms asked to have the shares q are weighed against any other shares, drawn from Dirichlet(C q): the
Bayes factor

    E = B(C q + n) / B(C q) / prod q_i^n_i

is a martingale from 1 if the split is as asked for, so 1 / E is a p-value at all looks at once (Lindon and Malek 2022,
"Anytime-valid inference for multinomial count data"). C tunes it to the mismatches that broken assignment makes, of a
percent or two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln  # type: ignore[import-untyped] # scipy carries no types

from anabranch_evaluation.domain.statistics.samples import Floats

CONCENTRATION = 500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """People per arm while one set of weights held."""

    counts: Mapping[str, int]
    weights: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRatio:
    """`log_evidence`: log E now. `p_value`: the least 1 / E of all looks, valid at all of them."""

    log_evidence: float
    p_value: float
    mismatch: bool


def log_evidence(counts: ArrayLike, shares: ArrayLike, *, concentration: float = CONCENTRATION) -> Floats:
    """Log E; arms along the last axis, shares above 0 that sum to 1."""
    n, q = np.asarray(counts, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    prior = concentration * q
    return np.asarray(
        gammaln(concentration)
        - gammaln(concentration + n.sum(axis=-1))
        + (gammaln(prior + n) - gammaln(prior) - n * np.log(q)).sum(axis=-1),
        dtype=np.float64,
    )


def sample_ratio(
    splits: Sequence[Split], *, alpha: float = 0.01, before: float = 1.0, concentration: float = CONCENTRATION
) -> SampleRatio:
    """Tests all stretches of an experiment together, one `Split` for each set of weights that held.

    `before`: the p-value of the look before, so that what was once shown stays shown; 1 at the first look. An arm of
    weight 0 that has people is a mismatch for certain.
    """
    total = 0.0
    for split in splits:
        people = {arm: count for arm, count in split.counts.items() if count}
        weights = {arm: float(weight) for arm, weight in split.weights.items() if weight > 0}
        if any(arm not in weights for arm in people):
            return SampleRatio(log_evidence=math.inf, p_value=0.0, mismatch=True)
        if not people:
            continue
        arms, whole = sorted(weights), sum(weights.values())
        total += float(
            log_evidence(
                [people.get(arm, 0) for arm in arms],
                [weights[arm] / whole for arm in arms],
                concentration=concentration,
            )
        )
    p_value = min(before, math.exp(-max(total, 0.0)))
    return SampleRatio(log_evidence=total, p_value=p_value, mismatch=p_value < alpha)
