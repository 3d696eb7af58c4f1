"""A feedback as a person gave it, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final, TypeAlias
from uuid import UUID

from anabranch_feedback.domain.names import id_of
from anabranch_feedback.domain.refusals import invalid

_NAMESPACE: Final = UUID("7a3f1c0e-5d94-5a6c-8b7e-2f1d0c9b8a76")
_TENANT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ANSWER: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_LABEL: Final = re.compile(r"[a-z0-9_-]{1,64}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_NAME: Final = 128
_COMMENT: Final = 4_096
_CORRECTION: Final = 16_384
_STARS: Final = 5
_GOOD: Final = 4
_BAD: Final = 2
_REASONS: Final = 16
_RANKED: Final = 200
_DWELL: Final = timedelta(days=1)


class Sign(IntEnum):
    """As in the contract, number for number."""

    CITATION_OPENED = 1
    ANSWER_COPIED = 2
    DWELLED = 3
    TASK_DONE = 4
    ASKED_AGAIN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumb:
    """Up or down."""

    up: bool

    @property
    def kind(self) -> str:
        """What it counts as."""
        return "thumb-up" if self.up else "thumb-down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """Stars, with reasons."""

    stars: int
    reasons: tuple[str, ...] = ()
    kind = "rating"

    def __post_init__(self) -> None:
        """Refuses what is not on the scale."""
        _check_stars("rating.stars", self.stars)
        if len(self.reasons) > _REASONS:
            raise invalid("rating.reasons", f"{len(self.reasons)} labels are too many: at most {_REASONS}")
        for label in self.reasons:
            if not _LABEL.fullmatch(label):
                raise invalid("rating.reasons", f"{label[:80]!r} is no label: 1 to 64 of a-z, 0-9, _ and -")


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """The right answer."""

    text: str
    kind = "correction"

    def __post_init__(self) -> None:
        """Refuses none, and a book."""
        if not self.text.strip():
            raise invalid("correction.text", "is empty: write the right answer")
        if len(self.text) > _CORRECTION:
            raise invalid("correction.text", f"{len(self.text):,} characters are too many: at most {_CORRECTION:,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """One of two answers."""

    other_answer_id: str
    prefers_other: bool
    kind = "preference"

    def __post_init__(self) -> None:
        """Refuses what cannot be an answer's id."""
        _check_answer("preference.other_answer_id", self.other_answer_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class CitationJudgment:
    """Whether a passage that was shown is relevant."""

    chunk_id: str
    relevant: bool

    def __post_init__(self) -> None:
        """Refuses what cannot be a chunk's id."""
        _check_name("citation.chunk_id", self.chunk_id)

    @property
    def kind(self) -> str:
        """What it counts as."""
        return "citation-relevant" if self.relevant else "citation-irrelevant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Implicit:
    """A sign nobody was asked for."""

    sign: Sign
    chunk_id: str = ""
    dwell: timedelta | None = None
    kind = "implicit"

    def __post_init__(self) -> None:
        """Refuses a sign without what belongs to it."""
        if self.sign is Sign.CITATION_OPENED or self.chunk_id:
            _check_name("implicit.chunk_id", self.chunk_id)
        if self.sign is Sign.DWELLED and self.dwell is None:
            raise invalid("implicit.dwell", "is missing: say how long")
        if self.dwell is not None and not timedelta(0) <= self.dwell <= _DWELL:
            raise invalid("implicit.dwell", "must be between nothing and a day")


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A rater's judgment. `stars` is 0 only where the rater could not tell."""

    stars: int = 0
    ranking: tuple[str, ...] = ()
    relevant: tuple[str, ...] = ()
    skipped: bool = False
    kind = "review"

    def __post_init__(self) -> None:
        """Refuses what contradicts itself."""
        if not (self.skipped and self.stars == 0):
            _check_stars("review.stars", self.stars)
        if len(self.ranking) > _RANKED:
            raise invalid("review.ranking", f"{len(self.ranking)} chunks are too many: at most {_RANKED}")
        for chunk_id in self.ranking:
            _check_name("review.ranking", chunk_id)
        if len(set(self.ranking)) != len(self.ranking):
            raise invalid("review.ranking", "names a chunk twice")
        if len(set(self.relevant)) != len(self.relevant) or not set(self.relevant) <= set(self.ranking):
            raise invalid("review.relevant", "must be chunks of the ranking, each once")


What: TypeAlias = Thumb | Rating | Correction | Preference | CitationJudgment | Implicit | Review


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One person's feedback on one answer. `consent` is the contract's number. Raises Refused."""

    tenant: str
    answer_id: str
    user_id: str
    what: What
    comment: str = ""
    given_at: datetime | None = None
    consent: int = 0

    def __post_init__(self) -> None:
        """Refuses what cannot be; names the field."""
        if not _TENANT.fullmatch(self.tenant):
            raise invalid("tenant", f"{self.tenant[:80]!r} is no tenant: 1 to 64 of A-Z, a-z, 0-9, ., _ and -")
        _check_answer("answer_id", self.answer_id)
        _check_name("user_id", self.user_id)
        if len(self.comment) > _COMMENT:
            raise invalid("comment", f"{len(self.comment):,} characters are too many: at most {_COMMENT:,}")
        if self.other_answer_id == self.answer_id:
            raise invalid("preference.other_answer_id", "is the same answer: name the other one")

    @property
    def kind(self) -> str:
        """What it counts as."""
        return self.what.kind

    @property
    def slot(self) -> str:
        """One feedback is kept per answer, person and slot."""
        match self.what:
            case Thumb():
                return "thumb"
            case CitationJudgment(chunk_id=chunk_id):
                return f"citation/{chunk_id}"
            case Implicit(sign=sign, chunk_id=chunk_id):
                return f"implicit/{sign.value}/{chunk_id}"
            case Preference(other_answer_id=other):
                return f"preference/{other}"
        return self.what.kind

    @property
    def feedback_id(self) -> str:
        """The same for every revision."""
        return id_of(_NAMESPACE, self.tenant, self.answer_id, self.user_id, self.slot)

    @property
    def verdict(self) -> int:
        """1: the answer was good, -1: it was not, 0: this does not say."""
        match self.what:
            case Thumb(up=up):
                return 1 if up else -1
            case Rating(stars=stars) | Review(stars=stars, skipped=False):
                return (stars >= _GOOD) - (stars <= _BAD)
            case Correction():
                return -1
        return 0

    @property
    def other_answer_id(self) -> str:
        """The second answer it is about; empty but for a preference."""
        return self.what.other_answer_id if isinstance(self.what, Preference) else ""

    @property
    def chunk_ids(self) -> tuple[str, ...]:
        """Chunks it judges, which must have been shown."""
        match self.what:
            case CitationJudgment(chunk_id=chunk_id):
                return (chunk_id,)
            case Implicit(chunk_id=chunk_id):
                return (chunk_id,) if chunk_id else ()
            case Review(ranking=ranking):
                return ranking
        return ()


def _check_stars(field: str, stars: int) -> None:
    if not 1 <= stars <= _STARS:
        raise invalid(field, f"{stars} is not on the scale: 1 to {_STARS}")


def _check_answer(field: str, answer_id: str) -> None:
    if not _ANSWER.fullmatch(answer_id):
        raise invalid(field, f"{answer_id[:80]!r} cannot be an answer's id")


def _check_name(field: str, name: str) -> None:
    if not 1 <= len(name) <= _NAME:
        raise invalid(field, f"has {len(name):,} characters: must have 1 to {_NAME}")
    if _CONTROL.search(name):
        raise invalid(field, "holds control characters")
