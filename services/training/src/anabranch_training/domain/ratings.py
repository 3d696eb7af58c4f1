"""Feedback as it is kept for training: ids, features and labels; no free text."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from anabranch_training.domain.judgments import Judgment

__all__ = ["GoldQuestion", "Taken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One revision of a feedback.

    Without judgments it teaches nothing: no consent, no features, a kind that says nothing about passages, or
    `withdrawn`. It replaces what an earlier revision taught all the same.
    """

    feedback_id: str
    revision: int
    tenant: str
    corpus: str
    answer_id: str
    user: str
    at: datetime
    judgments: tuple[Judgment, ...] = ()
    withdrawn: bool = False
    denied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldQuestion:
    """A question and its right documents."""

    question: str
    relevant: frozenset[str]
