"""Judged passages, and the data set that a ranking is learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from anabranch_faults import Invalid

__all__ = ["GOLD", "Judgment", "RankingDataset", "RankingRow"]

GOLD: Final = "gold"
"""Source of labels that nobody has to be guarded against: no cap, no screen, no propensity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgment:
    """One person's word on one passage shown for one question.

    `question` is a digest; `label` goes from 0 (irrelevant) to 1; `shown_rank` counts from 1 (0: not shown, gold
    only); `randomised`: two ranks of its answer changed places by lot; `rank` is where it stood before that (0: not
    known); `source` is the kind of feedback, or `GOLD`.
    """

    question: str
    document: str
    chunk: str
    user: str
    label: float
    shown_rank: int
    randomised: bool
    features: tuple[float, ...]
    at: datetime
    source: str
    rank: int = 0

    def __post_init__(self) -> None:
        """Refuses a label outside of 0 to 1, and a rank below 0."""
        if not 0 <= self.label <= 1:
            raise Invalid("must lie between 0 and 1", field="label", reason="LABEL_RANGE")
        if self.shown_rank < 0:
            raise Invalid("must not be negative", field="shown_rank", reason="RANK_RANGE")


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingRow:
    """A judgment as it is learned from: no user any more, but what their word weighs."""

    question: str
    document: str
    chunk: str
    label: float
    weight: float
    shown_rank: int
    features: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingDataset:
    """What a ranking is learned from, and how it came about.

    `rows` and `held_out` share no question, and no document that a held-out question was about. `noise` estimates the
    share of labels that are wrong, of those kept. `propensities`: rank -> chance of being judged, relative to the
    likeliest rank. Counts: judgments, users, questions, documents, relevant, irrelevant, dropped_as_leak.
    """

    rows: tuple[RankingRow, ...]
    held_out: tuple[RankingRow, ...]
    counts: Mapping[str, int]
    sources: Mapping[str, int]
    first: datetime
    last: datetime
    noise: float
    dropped_by_cap: int
    dropped_as_outlier: int
    propensities: Mapping[int, float]
