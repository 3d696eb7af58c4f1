"""Bandit: traffic moves to the arms that may yet be best.

Top-two Thompson sampling (Russo 2020, "Simple Bayesian algorithms for best-arm identification"). With the posterior of
each arm's mean normal, the share that top-two sampling would give an arm in the long run of draws has a closed form, so
that weights follow from the data without a random number:

    w_i = p_i (b + (1 - b) sum_{j != i} p_j / (1 - p_j)),   p_i = P(arm i is best),  b = share of the leader's draws
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr  # type: ignore[import-untyped] # scipy carries no types

from anabranch_evaluation.domain.statistics.samples import Floats, Sample, squared_error

LEADER = 0.5
_AT, _RULE = np.polynomial.hermite_e.hermegauss(48)
_RULE = _RULE / _RULE.sum()


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Shares of the arms (they sum to 1), what is known of them, and the winner if there is one (else empty).

    `ended`: as many people were seen as it takes, and none has won: the arms are too much alike.
    """

    weights: Mapping[str, float]
    probability_best: Mapping[str, float]
    winner: str
    reason: str
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandit:
    """The rule of a bandit.

    `confidence`: the probability of being best at which an arm has won; chosen by simulation so that a wrong arm wins
    in at most 5 % of experiments however little the best is ahead, and however often one looks (bench/statistics.py).
    `horizon`: people an arm after which it ends without a winner. `min_users`: per arm, before shares move or it may
    stop. `prior_people`: what is believed beforehand, that all arms are alike, counts as this many people an arm; it
    keeps early luck from winning.

    `minimum_share`: of an arm that is still in; an arm is out, with share 0, while its probability of being best is
    below `out`.
    """

    minimum_share: float = 0.05
    confidence: float = 0.99
    horizon: int = 2_000
    min_users: int = 50
    prior_people: float = 100.0
    out: float = 0.002
    value_range: float = 1.0

    def believe(self, counts: ArrayLike, means: ArrayLike, variances: ArrayLike) -> Floats:
        """Probabilities of being best: means drawn towards each other by the prior; arms along the last axis."""
        n, m = np.asarray(counts, dtype=np.float64), np.asarray(means, dtype=np.float64)
        spread = squared_error(n, variances, self.value_range) * n
        centre = m.mean(axis=-1, keepdims=True)
        weight = n / (n + self.prior_people)
        return probability_best(centre + (m - centre) * weight, np.sqrt(spread / (n + self.prior_people)))

    def weights(self, best: Floats) -> Floats:
        """Shares by the probabilities of being best; arms along the last axis."""
        p = np.asarray(best, dtype=np.float64)
        rest = np.maximum(1 - p, 1e-12)
        odds = p / rest
        w = p * (LEADER + (1 - LEADER) * (odds.sum(axis=-1, keepdims=True) - odds))
        inside = p >= np.minimum(self.out, p.max(axis=-1, keepdims=True))
        w = np.where(inside, w, 0.0)
        w /= w.sum(axis=-1, keepdims=True)
        floor = np.where(inside, np.minimum(self.minimum_share, 1 / inside.sum(axis=-1, keepdims=True)), 0.0)
        spare = 1 - floor.sum(axis=-1, keepdims=True)
        above = np.maximum(w - floor, 0.0)
        total = above.sum(axis=-1, keepdims=True)
        return np.asarray(floor + np.where(total > 0, spare * above / np.where(total > 0, total, 1.0), spare * w))

    def allocate(self, arms: Mapping[str, Sample]) -> Allocation:
        """Shares for the next people, from what all arms have shown so far."""
        if not arms:
            raise ValueError("a bandit without arms")
        names = sorted(arms)
        counts = np.array([arms[name].count for name in names], dtype=np.float64)
        fewest = max(self.min_users, 2)
        if counts.min() < fewest:
            same = dict.fromkeys(names, 1 / len(names))
            reason = f"{int(counts.min())} people in the smallest arm, asked for {fewest}"
            return Allocation(weights=same, probability_best=same, winner="", reason=reason)
        best = self.believe(counts, [arms[name].mean for name in names], [arms[name].variance for name in names])
        leader = int(best.argmax())
        reason = f"{names[leader]} is best with probability {best[leader]:.3f}, asked for {self.confidence:.3f}"
        return Allocation(
            weights=dict(zip(names, self.weights(best).tolist(), strict=True)),
            probability_best=dict(zip(names, best.tolist(), strict=True)),
            winner=names[leader] if best[leader] >= self.confidence else "",
            reason=reason,
            ended=bool(counts.sum() >= self.horizon * len(names) and best[leader] < self.confidence),
        )


def probability_best(means: ArrayLike, errors: ArrayLike) -> Floats:
    """P(arm i has the largest mean) for independent normal posteriors N(mean, error^2); arms along the last axis.

    The integral over arm i's posterior of prod_j Phi((x - mean_j) / error_j), by Gauss-Hermite quadrature.
    """
    m, e = np.asarray(means, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    arms = m.shape[-1]
    out = np.empty_like(m)
    for i in range(arms):
        at = m[..., i, None] + e[..., i, None] * _AT
        product = np.ones_like(at)
        for j in range(arms):
            if j != i:
                product *= ndtr((at - m[..., j, None]) / e[..., j, None])
        out[..., i] = product @ _RULE
    return np.asarray(out / out.sum(axis=-1, keepdims=True))


def whole_shares(weights: Mapping[str, float], total: int = 100) -> dict[str, int]:
    """Shares as whole numbers that sum to `total`, by largest remainder; an arm that is in keeps at least 1."""
    exact = {name: share * total for name, share in weights.items()}
    whole = {name: max(int(share), 1 if share > 0 else 0) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (whole[name] - exact[name], name))
    for name in by_remainder:
        if sum(whole.values()) >= total:
            break
        whole[name] += 1
    while sum(whole.values()) > total:
        whole[max(whole, key=lambda name: (whole[name] - exact[name] if whole[name] > 1 else -total, name))] -= 1
    return whole
