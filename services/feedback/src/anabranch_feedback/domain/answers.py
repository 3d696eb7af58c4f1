"""What the service needs to know about an answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

_TIMED: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentShown:
    """A document an answer was drawn from, and whether the answer cites it."""

    corpus: str
    document_id: str
    cited: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer's record: `record` and `cause` are the contract's messages, as bytes."""

    tenant: str
    answer_id: str
    corpus: str
    user_id: str
    variant_id: str
    served_at: datetime
    abstained: bool
    has_content: bool
    documents: tuple[DocumentShown, ...]
    record: bytes
    cause: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """As much of a stored answer as joining needs."""

    tenant: str
    answer_id: str
    corpus: str
    has_content: bool
    cause: bytes


def made_at(answer_id: str) -> datetime | None:
    """When the answer's id (a UUID of version 7) was made; None for an id without a time in it."""
    try:
        uuid = UUID(answer_id)
    except ValueError:
        return None
    if uuid.version != _TIMED:
        return None
    try:
        return datetime.fromtimestamp((uuid.int >> 80) / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None
