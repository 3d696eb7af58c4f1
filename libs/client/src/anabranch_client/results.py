"""What the calls return: frozen values, times as `timedelta` and `datetime`, enumerations by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

__all__ = [
    "Accepted",
    "Answer",
    "AskEvent",
    "Citation",
    "Corpus",
    "Delta",
    "Document",
    "DocumentRef",
    "DocumentState",
    "DocumentStatus",
    "FinishReason",
    "Finished",
    "Guard",
    "GuardStage",
    "GuardVerdict",
    "Hit",
    "Provenance",
    "Rejection",
    "Retrieved",
    "Role",
    "SearchResult",
    "Span",
    "Started",
    "Timings",
    "Turn",
    "Usage",
]


class Role(StrEnum):
    """Who spoke."""

    USER = "user"
    ASSISTANT = "assistant"


class FinishReason(StrEnum):
    """Why an answer ended. A value this client does not know reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    STOP = "stop"
    LENGTH = "length"
    ABSTAINED = "abstained"
    TIMEOUT = "timeout"
    BLOCKED = "blocked"


class GuardVerdict(StrEnum):
    """What a guardrail decided. A value this client does not know reads as BLOCK."""

    ALLOW = "allow"
    REDACT = "redact"
    FLAG = "flag"
    BLOCK = "block"
    REVIEW = "review"


class GuardStage(StrEnum):
    """Where on its way a text was checked. A value this client does not know reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    INPUT = "input"
    CONTEXT = "context"
    OUTPUT = "output"
    INGESTION = "ingestion"


class DocumentState(StrEnum):
    """Where a document stands. A value this client does not know reads as UNSPECIFIED."""

    UNSPECIFIED = "unspecified"
    ACCEPTED = "accepted"
    QUERYABLE = "queryable"
    UNCHANGED = "unchanged"
    DELETED = "deleted"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One utterance of a conversation."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Half-open range of Unicode code points: `text[span.start:span.end]`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRef:
    """One version of one document of the key's tenant."""

    corpus: str
    document_id: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A span of the answer tied to a span of a document.

    `number` is [n] as it stands in the answer, 0 where the text carries no marker; `text` is exactly what the document
    says over `span`; `answer_span` is what it supports in the answer; `support` is 0 to 1.
    """

    number: int
    document: DocumentRef
    chunk_id: str
    text: str
    span: Span
    answer_span: Span
    title: str
    source_uri: str
    page: int
    support: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens in the backend's own tokenizer."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """The parts of an answer's time, as the gateway saw them. Of guardrails it is the wait for them."""

    condense: timedelta
    embed: timedelta
    search: timedelta
    generate: timedelta
    first_token: timedelta
    total: timedelta
    guard_input: timedelta = timedelta()
    guard_output: timedelta = timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer. `search_query` is what was asked of the index.

    `guards` are verdicts other than ALLOW; after a block (`finish_reason`) `text` is a sentence for the person asking.
    `cached` answers were given before; `cost_micros` are millionths of a US dollar, None where nobody knows.
    """

    answer_id: str
    text: str
    abstained: bool
    citations: tuple[Citation, ...]
    variant_id: str
    search_query: str
    usage: Usage
    timings: Timings
    finish_reason: FinishReason
    guards: tuple[Guard, ...] = ()
    cached: bool = False
    cost_micros: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage that was found. `span` are its offsets in the document's extracted text."""

    document_id: str
    version: int
    chunk_id: str
    score: float
    text: str
    title: str
    title_path: tuple[str, ...]
    page: int
    line: int
    source_uri: str
    span: Span
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """First event of a streamed answer."""

    answer_id: str
    variant_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """What the answer will be drawn from."""

    search_query: str
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """The next piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A guardrail's verdict. After BLOCK no further Delta comes."""

    verdict: GuardVerdict
    check: str
    reason: str
    stage: GuardStage = GuardStage.UNSPECIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Last event of a streamed answer; `cached` and `cost_micros` as in Answer.

    `message` is what the person asking is told when it was blocked, in the place of the text; else empty.
    """

    usage: Usage
    timings: Timings
    abstained: bool
    citations: tuple[Citation, ...]
    finish_reason: FinishReason
    cached: bool = False
    cost_micros: int | None = None
    message: str = ""


AskEvent: TypeAlias = Started | Retrieved | Delta | Guard | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """Hits, best first, and what they were found with."""

    hits: tuple[Hit, ...]
    variant_id: str
    index_generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """What the tenant put under one name. `changed_at` is None for a corpus nothing was ever indexed in."""

    corpus: str
    document_count: int
    chunk_count: int
    index_generation: int
    embedding_version: str
    changed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A change that the bus holds durably; `event_id` is what its statuses name as `caused_by`."""

    corpus: str
    document_id: str
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a document was refused: `reason` for programs (UPPER_SNAKE), `detail` for people."""

    reason: str
    detail: str
    field: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentStatus:
    """Where a document stands, and which change that answers."""

    document: DocumentRef
    state: DocumentState
    caused_by: str
    rejection: Rejection | None
    index_generation: int
    chunk_count: int
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a document's text came from and what made it."""

    source_uri: str
    content_sha256: str
    fingerprint: str
    content_type: str
    parser: str
    chunker: str
    changed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document's latest status and lineage."""

    status: DocumentStatus
    title: str
    provenance: Provenance
    metadata: Mapping[str, str]
