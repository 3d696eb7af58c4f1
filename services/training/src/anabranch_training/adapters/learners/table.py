"""Rows as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from anabranch_training.domain import RankingRow

__all__ = ["Floats", "Ints", "Table"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One row a judgment, sorted by question; questions and documents are numbered from 0."""

    features: Floats
    labels: Floats
    weights: Floats
    questions: Ints
    documents: Ints

    @classmethod
    def of(cls, rows: Sequence[RankingRow], *, reverse: bool = False) -> Table:
        """Reads rows; `reverse` turns every label round."""
        rows = sorted(rows, key=lambda row: (row.question, row.chunk, row.features, row.label, row.weight))
        labels = np.array([row.label for row in rows], dtype=float)
        return cls(
            features=np.array([row.features for row in rows], dtype=float),
            labels=1 - labels if reverse else labels,
            weights=np.array([row.weight for row in rows], dtype=float),
            questions=_numbers([row.question for row in rows]),
            documents=_numbers([row.document for row in rows]),
        )

    def where(self, chosen: npt.NDArray[Any]) -> Table:
        """The chosen rows."""
        return Table(
            features=self.features[chosen],
            labels=self.labels[chosen],
            weights=self.weights[chosen],
            questions=np.unique(self.questions[chosen], return_inverse=True)[1].astype(np.int64),
            documents=np.unique(self.documents[chosen], return_inverse=True)[1].astype(np.int64),
        )

    def concordance(self, scores: Floats) -> tuple[float, float]:
        """Pairs of one question with differing labels: the weight of those in the right order, and of all.

        A tie counts half. A question's pairs together weigh as much as its judgments, not as their square.
        """
        right = whole = 0.0
        starts = np.flatnonzero(np.diff(self.questions, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(scores)], strict=True):
            labels, weights, told = self.labels[start:end], self.weights[start:end], scores[start:end]
            better = labels[:, None] - labels[None, :]
            weight = np.where(better > 0, better * weights[:, None] * weights[None, :], 0) / max(1, end - start)
            ahead = np.sign(told[:, None] - told[None, :]) / 2 + 0.5
            right += float((weight * ahead).sum())
            whole += float(weight.sum())
        return right, whole


def _numbers(names: Sequence[str]) -> Ints:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
