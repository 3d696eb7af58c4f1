"""What people said about answers, with the words of question, passages and answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from anabranch_faults import Invalid

__all__ = ["Answered", "Opinion", "Said", "ShownPassage"]


class Said(StrEnum):
    """What kind of word it is."""

    CORRECTION = "correction"
    PREFERENCE = "preference"
    JUDGED = "judged"
    """Good or bad, by thumb, stars or review."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPassage:
    """A passage as the answer was drawn from it."""

    document: str
    title: str
    text: str
    cited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer as it was served. `question` stands alone; `key`: equal questions share it."""

    answer_id: str
    key: str
    question: str
    text: str
    passages: tuple[ShownPassage, ...] = ()

    def __post_init__(self) -> None:
        """Refuses an answer to nothing, and one that says nothing."""
        if not self.key or not self.question.strip() or not self.text.strip():
            raise Invalid("has no question or no text", field="answer", reason="NO_CONTENT")

    @property
    def about(self) -> frozenset[str]:
        """Documents it cites; the first one shown where it cites none."""
        cited = frozenset(passage.document for passage in self.passages if passage.cited)
        return cited or frozenset(passage.document for passage in self.passages[:1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """One person's word. `source`: the kind of feedback; `value`: 0 (bad) to 1 (good), of a judgment."""

    feedback_id: str
    user: str
    at: datetime
    said: Said
    source: str
    answer: Answered
    correction: str = ""
    other: Answered | None = None
    prefers_other: bool = False
    value: float = 0.5

    def __post_init__(self) -> None:
        """Refuses what says nothing."""
        if self.said is Said.CORRECTION and not self.correction.strip():
            raise Invalid("is empty", field="correction", reason="NO_CONTENT")
        if self.said is Said.PREFERENCE and self.other is None:
            raise Invalid("names no other answer", field="other", reason="NO_CONTENT")
        if not 0 <= self.value <= 1:
            raise Invalid("must lie between 0 and 1", field="value", reason="LABEL_RANGE")
