"""Drift: whether what is asked, or how well it is found, is no longer what the last data set was made of.

Readings of answers since the last data set are held against readings from before it, window by window. Several things
are measured of every answer; each is compared by a two-sample test (Kolmogorov and Smirnov's for numbers, chi-square
for what is asked about), and the least p-value of a signal is multiplied by their number (Bonferroni). Look k of a
period may spend the share 1 / (k (k + 1)) of the error: the shares sum to 1, so the p-value given holds at all looks at
once, however the windows overlap.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincc, kolmogorov  # type: ignore[import-untyped]  # scipy carries no types

from anabranch_training.domain.features import RF1

__all__ = ["ALPHA", "Period", "Reading", "Signal", "drifted", "reading_of", "topic_of"]

Floats = npt.NDArray[np.float64]

ALPHA: Final = 0.01
"""Of a signal and a period: how often a period without drift may be taken for one, over all of its looks."""
WINDOW: Final = 200
"""Answers that are held against the reference at a look; as many must be in it."""
STEP: Final = 100
"""New answers from look to look."""
REFERENCE: Final = 1_000
"""Latest answers from before the last data set that the reference holds."""
TOPICS: Final = 32
_FEWEST: Final = 5.0
"""People expected in a cell of a chi-square test; rarer topics are taken together."""
_DENSE, _KEYWORDS, _SENTENCE, _OVERLAP = (RF1.index(name) for name in ("dense", "bm25", "best_sentence", "overlap"))


class Signal(StrEnum):
    """What may drift."""

    QUERIES = "queries"
    SCORES = "scores"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An answer in a few numbers: no words, and nobody's name.

    `topic`: the document found first, as one of 32; `numbers`: by signal, each as long in every reading.
    """

    topic: int
    numbers: Mapping[Signal, tuple[float, ...]]


def topic_of(document: str) -> int:
    """Return one of 32 for a document, the same everywhere."""
    return hashlib.sha256(document.encode()).digest()[0] % TOPICS


def reading_of(documents: Sequence[str], features: Sequence[Sequence[float]]) -> Reading | None:
    """Reads the passages found for a question, best first, by their features of rf-1; None where there are none.

    Queries: the first document; the best keyword score, which grows with the number and rarity of words; the best share
    of the question's words in a passage. Scores: the best cosines of a passage and of a sentence, and how far the best
    passage is ahead of the mean.
    """
    if not features:
        return None
    table = np.asarray(features, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(RF1) or not np.isfinite(table).all():  # noqa: PLR2004  rows and columns
        return None
    dense = table[:, _DENSE]
    return Reading(
        topic=topic_of(documents[0]),
        numbers={
            Signal.QUERIES: (float(table[:, _KEYWORDS].max()), float(table[:, _OVERLAP].max())),
            Signal.SCORES: (
                float(dense.max()),
                float(table[:, _SENTENCE].max()),
                float(dense.max() - dense.mean()),
            ),
        },
    )


class Period:
    """The readings since a data set against those from before it. Takes recent readings in the order they came in."""

    def __init__(self, reference: Sequence[Reading]) -> None:
        """Takes the readings from before, of which the latest thousand count."""
        self._reference = list(reference)[-REFERENCE:]
        self._recent: list[Reading] = []
        self._came = 0
        self._looks = 0
        self._least = dict.fromkeys(Signal, 1.0)

    @property
    def came(self) -> int:
        """How many readings were added."""
        return self._came

    def add(self, readings: Sequence[Reading]) -> None:
        """Takes the next readings, and looks as often as is due."""
        if len(self._reference) < WINDOW:
            self._came += len(readings)
            return
        for reading in readings:
            self._came += 1
            self._recent = [*self._recent[1 - WINDOW :], reading]
            if self._came >= WINDOW and (self._came - WINDOW) % STEP == 0:
                self._look()

    @property
    def p_values(self) -> Mapping[Signal, float]:
        """Of nothing having drifted, valid at all looks; empty before the first."""
        return dict(self._least) if self._looks else {}

    def _look(self) -> None:
        self._looks += 1
        share = 1 / (self._looks * (self._looks + 1))
        for signal in Signal:
            found = _p_values(signal, self._reference, self._recent)
            self._least[signal] = min(self._least[signal], len(found) * min(found) / share)


def drifted(p_values: Mapping[Signal, float], alpha: float = ALPHA) -> tuple[Signal, float] | None:
    """Return the signal that has drifted most, and its p-value; None where none has."""
    found = min(p_values.items(), key=lambda pair: pair[1], default=None)
    return found if found is not None and found[1] <= alpha else None


def _p_values(signal: Signal, reference: Sequence[Reading], recent: Sequence[Reading]) -> list[float]:
    before = np.array([one.numbers[signal] for one in reference])
    after = np.array([one.numbers[signal] for one in recent])
    found = [_smirnov(before[:, column], after[:, column]) for column in range(before.shape[1])]
    if signal is Signal.SCORES:
        # How far from the middle of both: scores that spread without moving are seen here.
        middle = np.median(np.concatenate([before[:, 0], after[:, 0]]))
        found.append(_smirnov(np.abs(before[:, 0] - middle), np.abs(after[:, 0] - middle)))
    if signal is Signal.QUERIES:
        found.append(_chi_square([one.topic for one in reference], [one.topic for one in recent]))
    return found


def _smirnov(first: Floats, second: Floats) -> float:
    """Two samples of numbers, by the limit distribution with Stephens' correction; ties make it cautious."""
    first, second = np.sort(first), np.sort(second)
    everywhere = np.concatenate([first, second])
    apart = np.abs(
        np.searchsorted(first, everywhere, side="right") / first.size
        - np.searchsorted(second, everywhere, side="right") / second.size
    ).max()
    root = math.sqrt(first.size * second.size / (first.size + second.size))
    return float(kolmogorov((root + 0.12 + 0.11 / root) * apart))


def _chi_square(first: Sequence[int], second: Sequence[int]) -> float:
    """Two samples of topics, the rare ones taken together by what both show of them."""
    counts = np.stack([np.bincount(side, minlength=TOPICS) for side in (first, second)]).astype(np.float64)
    whole, sizes = counts.sum(axis=0), counts.sum(axis=1)
    rare = whole * sizes.min() / sizes.sum() < _FEWEST
    cells = np.concatenate([counts[:, ~rare], counts[:, rare].sum(axis=1, keepdims=True)], axis=1)
    cells = cells[:, cells.sum(axis=0) > 0]
    if cells.shape[1] < 2:  # noqa: PLR2004  one topic tells nothing
        return 1.0
    expected = np.outer(sizes, cells.sum(axis=0)) / sizes.sum()
    statistic = float(((cells - expected) ** 2 / expected).sum())
    return float(gammaincc((cells.shape[1] - 1) / 2, statistic / 2))
