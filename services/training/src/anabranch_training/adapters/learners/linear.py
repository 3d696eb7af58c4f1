"""A linear score from few and noisy labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from anabranch_training.adapters.learners.posterior import Problem, likeliest, mean_above_zero
from anabranch_training.adapters.learners.table import Floats, Table
from anabranch_training.domain import LinearScore

__all__ = ["PRIOR", "fit", "log_likelihood", "scores"]

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
_LEVELS: Final = 0.1
"""Precision of the questions' own levels: some questions have many right passages, some none."""
_FREE: Final = 1e-3
"""Precision of what is free: next to nothing."""
_MOST_NOISE: Final = 0.45


def fit(
    table: Table, names: Sequence[str], *, ridge: float, noise: float, signs: bool = True, only: str = ""
) -> LinearScore:
    """The mean of what the weights may be, given labels that are flipped with probability `noise` and priors as above.

    Every question has a level of its own (pulled to the common one), so that what is learned is the order within
    questions. The larger `ridge`, the closer to the present order; in the limit it is the present order. The mean, not
    the likeliest: from few labels that one sets many weights to their bound of 0 by chance, the mean none. Without
    `signs` there are no bounds. `only` leaves all other features out.
    """
    mean = np.average(table.features, axis=0, weights=table.weights)
    spread = np.sqrt(np.average((table.features - mean) ** 2, axis=0, weights=table.weights))
    known = spread > 1e-9  # noqa: PLR2004  a feature that does not vary teaches nothing
    scale = np.where(known, spread, 1.0)
    if only:
        known &= np.array([name == only for name in names])
    design = np.clip((table.features - mean) / scale, -_CLIP, _CLIP) * known
    problem = Problem(
        design=np.column_stack([design, np.ones(len(design))]),
        labels=table.labels,
        weights=table.weights,
        questions=table.questions,
        pull=np.array([*(_FREE if name == PRIOR else ridge for name in names), _FREE]),
        flip=min(max(noise, 0.0), _MOST_NOISE),
        levels=_LEVELS,
    )
    found, precision = likeliest(problem, np.array([*(float(name == PRIOR) for name in names), 0.0]))
    if signs:
        bound = np.array([*(name in _NEVER_WORSE for name in names), False])
        found = mean_above_zero(found, precision, bound & np.append(known, False))
    return LinearScore(
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        weights=tuple((found[:-1] * known).tolist()),
        bias=float(found[-1]),
        clip=_CLIP,
    )


def log_likelihood(model: LinearScore, table: Table, *, noise: float) -> Floats:
    """By row, weighed: how likely the model holds its label, were it flipped with probability `noise`."""
    flip = min(max(noise, 1e-3), _MOST_NOISE)
    sure = 1 / (1 + np.exp(-np.clip(scores(model, table.features), -35, 35)))
    told = flip + (1 - 2 * flip) * sure
    return np.asarray(table.weights * (table.labels * np.log(told) + (1 - table.labels) * np.log(1 - told)))


def scores(model: LinearScore, features: Floats) -> Floats:
    """The model's score of each row."""
    standard = np.clip((features - np.array(model.mean)) / np.array(model.scale), -model.clip, model.clip)
    return np.asarray(standard @ np.array(model.weights) + model.bias, dtype=float)
