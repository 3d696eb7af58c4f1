"""A text on its way, and what is found in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from anabranch_faults import Invalid

__all__ = ["Context", "Finding", "Span", "Stage", "Status", "Subject", "Verdict"]


class Stage(IntEnum):
    """Where on the answer's path a text is; the numbers are the contract's."""

    UNSPECIFIED = 0
    INPUT = 1
    """What a person asks."""
    CONTEXT = 2
    """What was retrieved for it."""
    OUTPUT = 3
    """What is about to be answered."""
    INGESTION = 4
    """A document on its way into the index."""


class Verdict(IntEnum):
    """What is done about a finding, ordered by weight of the contract's numbers; see `outweighs`."""

    UNSPECIFIED = 0
    ALLOW = 1
    REDACT = 2
    FLAG = 3
    BLOCK = 4
    REVIEW = 5

    def outweighs(self, other: Verdict) -> bool:
        """Whether this one holds where both were reached: block, then review, redact, flag, allow."""
        return _WEIGHT[self] > _WEIGHT[other]


_WEIGHT = {
    Verdict.UNSPECIFIED: 0,
    Verdict.ALLOW: 1,
    Verdict.FLAG: 2,
    Verdict.REDACT: 3,
    Verdict.REVIEW: 4,
    Verdict.BLOCK: 5,
}


class Status(IntEnum):
    """How a check itself went; the numbers are the contract's."""

    UNSPECIFIED = 0
    OK = 1
    ERROR = 2
    TIMEOUT = 3
    SKIPPED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Code points `start` to `end` of the text as it came, and what stands there (`EMAIL`, `SECRET`, `INJECTION`)."""

    start: int
    end: int
    kind: str
    score: float = 1.0

    def __post_init__(self) -> None:
        """Refuses a span of nothing."""
        if not 0 <= self.start < self.end:
            raise Invalid(f"{self.start} to {self.end} is no span", field="span")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A passage as checks see it; `key` names its text for caches (empty: none is kept)."""

    text: str
    key: str = ""
    source_uri: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One text to be checked, and what stands around it.

    `question` is what the person asked (for CONTEXT and OUTPUT), `turns` their turns so far, oldest first, `contexts`
    what the answer was drawn from (for OUTPUT). For OUTPUT too: `canary` must not show up in the text, `schema` (JSON)
    is what it has to satisfy, and numbers cited must be 1 to `citations`; empty and 0: nothing is asked. An answer that
    `abstained` is not held against the passages. What a policy tells a check is given to it when it is made.
    """

    stage: Stage
    text: str
    key: str = ""
    question: str = ""
    turns: tuple[str, ...] = ()
    contexts: tuple[Context, ...] = ()
    canary: str = ""
    schema: str = ""
    citations: int = 0
    abstained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check makes of a text: 0 for nothing at all to 1 for certain; spans where it can say; a reason for people.

    The reason never repeats the text's secrets or personal data.
    """

    score: float
    spans: tuple[Span, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        """Refuses a score that is none: NaN compares with no threshold, and would pass."""
        if not 0.0 <= self.score <= 1.0:
            raise Invalid(f"{self.score} is not between 0 and 1", field="score")


NOTHING = Finding(score=0.0)
