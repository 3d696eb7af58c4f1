"""What can be asked about feedback and answers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from anabranch_faults import Invalid, NotFound
from anabranch_feedback.application.ports import Feedback

_PAGE = 1_000
_REVIEWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An answer's record and cause, as the contract's bytes."""

    record: bytes
    cause: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A place in a list that is ordered by time, then id."""

    at: datetime
    id: str

    def token(self) -> str:
        """For a caller to hand back."""
        return base64.urlsafe_b64encode(f"{self.at.isoformat()}|{self.id}".encode()).decode()

    @classmethod
    def parse(cls, token: str) -> Mark | None:
        """Raises Invalid for what no response carried."""
        if not token:
            return None
        try:
            at, _, id_ = base64.urlsafe_b64decode(token.encode()).decode().partition("|")
            return cls(at=datetime.fromisoformat(at).astimezone(UTC), id=id_)
        except ValueError:
            raise Invalid("is not from a response of this service", field="page_token") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFilter:
    """Which answers; all that is set must match."""

    tenant: str
    corpus: str = ""
    document_id: str = ""
    user_id: str = ""
    variant_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An answer in a list. `cites_document` is None where no document was asked for."""

    answer_id: str
    corpus: str
    variant_id: str
    served_at: datetime
    record: bytes
    feedback_count: int
    cites_document: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingFilter:
    """Which joined feedback: by when it was joined, from `since` to before `until`."""

    tenant: str
    corpus: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A joined feedback, complete with its cause; records where asked for and there."""

    rating: Feedback
    record: bytes | None = None
    other_record: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Joined and waiting feedback by kind, and who gave it."""

    kinds: dict[str, int]
    users: int
    answers: int
    waiting: int
    rejected: int
    first_at: datetime | None
    last_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewItem:
    """An answer for a rater."""

    review_id: str
    answer_id: str
    record: bytes
    sampled_by: str
    reviews_done: int
    queued_at: datetime


class Shelf(Protocol):
    """Reads what is stored. Raises Unreachable when the database is away."""

    async def answer(self, tenant: str, answer_id: str) -> tuple[Stored, list[Feedback]] | None:
        """An answer and what people made of it."""

    async def answers(self, which: AnswerFilter, *, count: int, after: Mark | None) -> list[Line]:
        """Newest first, from after the mark."""

    async def ratings(
        self, which: RatingFilter, *, count: int, after: Mark | None, with_content: bool
    ) -> list[Exported]:
        """In the order of joining, from after the mark; what is withdrawn is left out."""

    async def count(self, tenant: str, corpus: str, since: datetime | None) -> Counts:
        """Counts."""

    async def reviews(self, tenant: str, corpus: str, rater_id: str, *, wanted: int, count: int) -> list[ReviewItem]:
        """Oldest first: fewer than `wanted` raters did them, and this one did not."""

    async def review(self, tenant: str, review_id: str) -> str | None:
        """The answer's id."""

    async def reviewed(self, tenant: str, corpus: str) -> list[Feedback]:
        """All that raters said."""


class Read:
    """Answers questions, page by page."""

    def __init__(self, shelf: Shelf) -> None:
        """Takes what is stored."""
        self._shelf = shelf

    async def answer(self, tenant: str, answer_id: str) -> tuple[Stored, list[Feedback]]:
        """Raises NotFound."""
        found = await self._shelf.answer(tenant, answer_id)
        if found is None:
            raise NotFound(f"there is no answer {answer_id[:128]}", field="answer_id")
        return found

    async def answers(self, which: AnswerFilter, *, page_size: int, page_token: str) -> tuple[list[Line], str]:
        """A page, and the token of the next."""
        _check_tenant(which.tenant)
        size = _size(page_size, default=50, most=_PAGE)
        rows = await self._shelf.answers(which, count=size + 1, after=Mark.parse(page_token))
        page = rows[:size]
        more = len(rows) > size
        return page, Mark(at=page[-1].served_at, id=page[-1].answer_id).token() if more else ""

    async def ratings(
        self, which: RatingFilter, *, page_size: int, page_token: str, with_content: bool
    ) -> tuple[list[Exported], str]:
        """A page, and the token of the next."""
        _check_tenant(which.tenant)
        size = _size(page_size, default=500, most=_PAGE)
        rows = await self._shelf.ratings(which, count=size + 1, after=Mark.parse(page_token), with_content=with_content)
        page = rows[:size]
        if len(rows) <= size:
            return page, ""
        last = page[-1].rating
        return page, Mark(at=last.joined_at or last.given_at, id=last.feedback_id).token()

    async def count(self, tenant: str, corpus: str, since: datetime | None) -> Counts:
        """Counts."""
        _check_tenant(tenant)
        return await self._shelf.count(tenant, corpus, since)

    async def reviews(
        self, tenant: str, corpus: str, rater_id: str, *, wanted: int, limit: int
    ) -> Sequence[ReviewItem]:
        """A rater's next pieces of work."""
        _check_tenant(tenant)
        if not rater_id:
            raise Invalid("is empty: who asks?", field="rater_id")
        count = _size(limit, default=10, most=_REVIEWS, field="limit")
        return await self._shelf.reviews(tenant, corpus, rater_id, wanted=wanted, count=count)


def _check_tenant(tenant: str) -> None:
    if not tenant:
        raise Invalid("is empty", field="tenant")


def _size(size: int, *, default: int, most: int, field: str = "page_size") -> int:
    if size > most:
        raise Invalid(f"{size} is too many: at most {most}", field=field)
    return size or default
