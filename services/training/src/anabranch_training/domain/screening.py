"""Whose word counts: users against what the others say, and against what the features say for everyone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from anabranch_training.domain.judgments import Judgment

__all__ = ["Screened", "screen"]

Floats = npt.NDArray[np.float64]

_ROUNDS: Final = 8
_HONEST, _RANDOM, _INVERSE = 0.80, 0.12, 0.08
"""What is believed of a user of whom nothing is known."""
_LEAST, _MOST = 0.02, 0.35
"""Bounds of the noise of honest users: a population that is wrong more often than this teaches nothing."""
_STILL: Final = 1e-6
_SUREST: Final = 0.7
_LEAST_TRUST: Final = 0.2
"""Below this trust a user's judgments are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """trust: per judgment, 0 (left out) to 1. noise: how often an honest label is wrong."""

    trust: Floats
    noise: float


def screen(judgments: Sequence[Judgment]) -> Screened:
    """Weighs users by how likely they are honest, rather than answering at random or the wrong way round.

    What each passage deserves is estimated from a regression over all users (weighed by trust, pulled to "higher in
    the search is better", which a tenth of the users cannot turn round) and from the other users who judged the same
    passage; never from the user's own word. Then users are weighed anew, until it stands still. Nobody's word is turned
    round: that would let an attacker write labels by contradicting them.
    """
    labels = np.array([one.label for one in judgments], dtype=float)
    users = _numbers([one.user for one in judgments])
    items = _numbers([f"{one.question}\n{one.chunk}" for one in judgments])
    design = _design(judgments)
    trust = np.ones(len(labels))
    noise = 0.15
    votes = 2 * labels - 1
    for _ in range(_ROUNDS):
        told = _probabilities(design, labels, trust)
        truth = np.clip((told - noise) / (1 - 2 * noise), 0.03, 0.97)
        strength = np.log((1 - noise) / noise)
        own = trust * votes * strength
        others = np.clip(np.bincount(items, weights=own)[items] - own, -4, 4)
        deserved = _sigmoid(np.log(truth / (1 - truth)) + others)
        agrees = labels * deserved + (1 - labels) * (1 - deserved)
        honest = (1 - noise) * agrees + noise * (1 - agrees)
        evidence = np.stack(
            [
                np.log(_HONEST) + np.bincount(users, weights=np.log(honest)),
                np.log(_RANDOM) + np.bincount(users) * np.log(0.5),
                np.log(_INVERSE) + np.bincount(users, weights=np.log(1 - honest)),
            ]
        )
        evidence = np.exp(evidence - evidence.max(axis=0))
        by_user = evidence[0] / evidence.sum(axis=0)
        trust = np.where(by_user < _LEAST_TRUST, 0.0, by_user)[users]
        # Where the regression is surest, a label that contradicts it is mostly the label's fault; elsewhere what the
        # features cannot tell would count as noise.
        surest = np.abs(told - 0.5) >= np.quantile(np.abs(told - 0.5), _SUREST)
        wrong = np.where(told > 0.5, 1 - labels, labels)  # noqa: PLR2004  the middle
        noise = float(np.clip(np.average(wrong, weights=trust * surest + 1e-9), _LEAST, _MOST))
    return Screened(trust=trust, noise=noise)


def _design(judgments: Sequence[Judgment]) -> Floats:
    found: Floats = np.array([one.features for one in judgments], dtype=float)
    spread = found.std(axis=0)
    return np.asarray((found - found.mean(axis=0)) / np.where(spread > 0, spread, 1.0), dtype=float)


def _probabilities(design: Floats, labels: Floats, weights: Floats, ridge: float = 20.0) -> Floats:
    """Ridge logistic regression by Newton's method: a dozen features, so each step is small."""
    full = np.column_stack([design, np.ones(len(design))])
    penalty = np.full(full.shape[1], ridge)
    penalty[-1] = 1e-3
    found = np.zeros(full.shape[1])
    for _ in range(12):
        told = _sigmoid(full @ found)
        slope = full.T @ (weights * (told - labels)) + penalty * found
        curve = (full * (weights * told * (1 - told))[:, None]).T @ full + np.diag(penalty)
        step = np.linalg.solve(curve, slope)
        found = found - step
        if float(np.abs(step).max()) < _STILL:
            break
    return _sigmoid(full @ found)


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -35, 35))), dtype=float)


def _numbers(names: Sequence[str]) -> npt.NDArray[Any]:
    return np.unique(np.array(names), return_inverse=True)[1]
