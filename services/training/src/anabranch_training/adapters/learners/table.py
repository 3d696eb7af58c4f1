"""Rows as arrays."""

from __future__ import annotations

import itertools
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

    def concordance(self, scores: Floats) -> tuple[Floats, Floats]:
        """By question, of its pairs with differing labels: the weight of those in the right order, and of all.

        A tie counts half. A question's pairs together weigh as much as its judgments, not as their square.
        """
        right, whole = [], []
        for start, end in self._spans():
            labels, weights, told = self.labels[start:end], self.weights[start:end], scores[start:end]
            better = labels[:, None] - labels[None, :]
            weight = np.where(better > 0, better * weights[:, None] * weights[None, :], 0) / (end - start)
            ahead = np.sign(told[:, None] - told[None, :]) / 2 + 0.5
            right.append(float((weight * ahead).sum()))
            whole.append(float(weight.sum()))
        return np.array(right), np.array(whole)

    def gain(self, scores: Floats, *, at: int = 10) -> tuple[Floats, Floats]:
        """By question: its nDCG@at, and 1; both 0 where nothing is relevant."""
        reached, counted = [], []
        discounts = 1 / np.log2(np.arange(2, at + 2))
        for start, end in self._spans():
            labels = self.labels[start:end]
            found = labels[np.argsort(-scores[start:end], kind="stable")[:at]]
            best = float(np.sort(labels)[::-1][:at] @ discounts[: len(found)])
            reached.append(float(found @ discounts[: len(found)]) / best if best > 0 else 0.0)
            counted.append(float(best > 0))
        return np.array(reached), np.array(counted)

    def _spans(self) -> list[tuple[int, int]]:
        starts = np.flatnonzero(np.diff(self.questions, prepend=-1)).tolist()
        return list(itertools.pairwise([*starts, len(self.labels)]))


def _numbers(names: Sequence[str]) -> Ints:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
