"""A linear score from few and noisy labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.optimize import minimize  # type: ignore[import-untyped, unused-ignore]  # ships no types

from anabranch_training.adapters.learners.table import Floats, Table
from anabranch_training.domain import LinearScore

__all__ = ["PRIOR", "fit", "scores"]

PRIOR: Final = "fused"
"""The feature that is the present order: its weight is free, all others are pulled to 0."""
_NEVER_WORSE: Final = frozenset(
    {
        "dense",
        "bm25",
        "fused",
        "dense_minmax",
        "bm25_minmax",
        "reciprocal_rank",
        "best_sentence",
        "second_sentence",
        "overlap",
        "best_sentence_overlap",
        "bigram_overlap",
        "title_overlap",
        "dense_rank",
        "bm25_rank",
    }
)
"""More of these never makes a passage less relevant: their weights stay at or above 0, whatever the labels say."""
_CLIP: Final = 6.0
_INTERCEPTS: Final = 0.3
"""Precision of the questions' own levels: some questions have many right passages, some none."""


def fit(
    table: Table,
    names: Sequence[str],
    *,
    ridge: float,
    noise: float,
    signs: bool = True,
    intercepts: float = _INTERCEPTS,
) -> LinearScore:
    """Maximises the likelihood of labels that are flipped with probability `noise`, under the priors above.

    Every question has a level of its own (pulled to the common one), so that what is learned is the order within
    questions. The larger `ridge`, the closer to the present order; in the limit it is the present order.
    """
    mean = np.average(table.features, axis=0, weights=table.weights)
    spread = np.sqrt(np.average((table.features - mean) ** 2, axis=0, weights=table.weights))
    known = spread > 1e-9  # noqa: PLR2004  a feature that does not vary teaches nothing
    scale = np.where(known, spread, 1.0)
    design = np.clip((table.features - mean) / scale, -_CLIP, _CLIP) * known
    count, groups = design.shape[1], int(table.questions.max()) + 1
    pull = np.array([1e-3 if name == PRIOR else ridge for name in names])
    total, flip = float(table.weights.sum()), min(max(noise, 0.0), 0.45)

    def loss(found: Floats) -> tuple[float, Floats]:
        weights, bias, levels = found[:count], found[count], found[count + 1 :]
        linear = design @ weights + bias + levels[table.questions]
        sure = 1 / (1 + np.exp(-np.clip(linear, -35, 35)))
        told = np.clip(flip + (1 - 2 * flip) * sure, 1e-9, 1 - 1e-9)
        value = -(table.weights * (table.labels * np.log(told) + (1 - table.labels) * np.log(1 - told))).sum()
        slope = table.weights * (told - table.labels) / (told * (1 - told)) * (1 - 2 * flip) * sure * (1 - sure)
        value += 0.5 * float(pull @ weights**2) + 0.5 * intercepts * float(levels @ levels)
        gradient = np.concatenate(
            [
                design.T @ slope + pull * weights,
                [slope.sum()],
                np.bincount(table.questions, weights=slope, minlength=groups) + intercepts * levels,
            ]
        )
        return float(value) / total, gradient / total

    start = np.zeros(count + 1 + groups)
    start[[name == PRIOR for name in names] + [False] * (1 + groups)] = 1.0
    bounds = [(0.0 if signs and name in _NEVER_WORSE else None, None) for name in names] + [(None, None)] * (1 + groups)
    done = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500})
    return LinearScore(
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        weights=tuple((done.x[:count] * known).tolist()),
        bias=float(done.x[count]),
        clip=_CLIP,
    )


def scores(model: LinearScore, features: Floats) -> Floats:
    """The model's score of each row."""
    standard = np.clip((features - np.array(model.mean)) / np.array(model.scale), -model.clip, model.clip)
    return np.asarray(standard @ np.array(model.weights) + model.bias, dtype=float)
