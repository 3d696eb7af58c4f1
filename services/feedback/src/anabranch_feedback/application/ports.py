"""What the use cases need from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Protocol

from anabranch_feedback.domain.answers import Answer, Known
from anabranch_feedback.domain.given import Given
from anabranch_feedback.domain.refusals import Refusal

Clock = Callable[[], datetime]


class Channel(IntEnum):
    """The way a feedback came in; as in the contract, number for number."""

    GRPC = 1
    KAFKA = 2
    REVIEW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """A feedback as it is kept: its present revision.

    `content` is the contract's FeedbackGiven, redacted, as bytes. Without `joined_at` it waits, since `waiting_since`,
    for an answer's record. `event_key` and `event_id` are those of the event that made the revision; `told_by_event`
    says that this event tells of it, and tells again whenever it comes again. `user_id` is empty when withdrawn.
    `verdict` is 1 where it calls the answer good, -1 where it does not, else 0.
    """

    feedback_id: str
    revision: int
    tenant: str
    corpus: str
    answer_id: str
    other_answer_id: str
    user_id: str
    kind: str
    verdict: int = 0
    content: bytes
    cause: bytes = b""
    given_at: datetime
    joined_at: datetime | None = None
    waiting_since: datetime | None = None
    channel: Channel
    event_key: str
    event_id: str
    told_by_event: bool = False
    withdrawn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An answer's record and cause as they are kept: the contract's messages, as bytes."""

    tenant: str
    answer_id: str
    record: bytes
    cause: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What became of an event that was taken before."""

    event_key: str
    tenant: str
    feedback_id: str
    refusal: Refusal | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Tells the sender of a feedback that it will not be used."""

    tenant: str
    answer_id: str
    user_id: str
    event_id: str
    refusal: Refusal
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """An answer that waits for raters."""

    tenant: str
    corpus: str
    answer_id: str
    sampled_by: str
    at: datetime


class Books(Protocol):
    """One transaction on what is stored: all of it happens, or none."""

    async def past(self, event_keys: Iterable[str]) -> dict[str, Past]:
        """Events that were taken before."""

    async def remember(self, events: Sequence[Past], at: datetime) -> None:
        """Keeps what became of events. Raises Transient when another transaction took one of them meanwhile."""

    async def refuse_later(self, past: Sequence[Past], at: datetime) -> None:
        """Changes what became of events that were taken before."""

    async def answers(self, answer_ids: Iterable[str]) -> dict[str, list[Known]]:
        """Answers by id, of whatever tenant."""

    async def add_answers(self, answers: Sequence[Answer]) -> None:
        """Keeps new answers; those that are there stay as they are."""

    async def feedback(self, feedback_ids: Iterable[str]) -> dict[str, Feedback]:
        """Present revisions, locked for this transaction; without causes."""

    async def feedback_of(self, tenant: str, user_id: str) -> list[Feedback]:
        """All that a person gave and did not take back, locked for this transaction."""

    async def feedback_on(self, tenant: str, user_id: str) -> list[Feedback]:
        """All that was joined to answers of this person's questions and not taken back, locked for this transaction."""

    async def asked_by(self, tenant: str, user_id: str, most: int) -> list[Kept]:
        """Records of answers to a person's questions."""

    async def replace_answers(self, emptied: Sequence[Kept]) -> None:
        """Keeps these records and causes, without a person and without content; raters do not see them any more."""

    async def waiting_for(self, answer_ids: Iterable[str]) -> list[Feedback]:
        """Feedback that waits for any of these answers, locked for this transaction."""

    async def joinable(self, most: int) -> list[Feedback]:
        """Feedback that waits though its answers' records are there, locked for this transaction."""

    async def overdue(self, before: datetime, most: int) -> list[Feedback]:
        """Feedback that waits since before then, oldest first, locked for this transaction."""

    async def save(self, *, new: Sequence[Feedback], changed: Sequence[Feedback]) -> None:
        """Keeps revisions. Raises Transient when another transaction made one of the new ones meanwhile."""

    async def remove(self, feedback_ids: Iterable[str]) -> None:
        """Forgets feedback that was never joined."""

    async def disputed(self, answers: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Of these answers (tenant, id) those that some call good and some do not."""

    async def queue(self, reviews: Sequence[Queued]) -> None:
        """Puts answers before raters; those that are there stay as they are."""

    async def tell(self, joined: Sequence[Feedback], rejected: Sequence[Rejection] = ()) -> None:
        """Publishes, when the transaction is committed. Ids follow from revision and event."""


class Ledger(Protocol):
    """What is stored."""

    def transaction(self) -> AbstractAsyncContextManager[Books]:
        """A transaction. Raises Unreachable when the database is away."""

    async def forget(self, *, events_before: datetime, answers_before: datetime) -> int:
        """Removes old events, and old answers without feedback; gives how many rows."""

    async def waiting(self) -> int:
        """How many feedbacks wait."""


class Redactor(Protocol):
    """Takes personal data out of free text."""

    def redact(self, text: str) -> str:
        """The text with a label in the place of each find."""


class Log(Protocol):
    """What operators hear."""

    def taken(self, kind: str, channel: Channel, state: str, count: int) -> None:
        """So many feedbacks were settled."""

    def refused(self, refusal: Refusal, channel: Channel) -> None:
        """A feedback will not be used."""

    def joined_late(self, delay: timedelta) -> None:
        """A feedback waited for its answer's record this long."""

    def waiting(self, count: int) -> None:
        """So many wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """The contract's bytes, for those who may not know messages."""

    content: Callable[[Given], bytes]
    given: Callable[[bytes], Given]
    shown: Callable[[bytes], frozenset[str]]
    emptied: Callable[[Kept], Kept]


Answers = Mapping[str, Sequence[Known]]
