"""What an answer is made of, and what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum
from typing import NewType, TypeAlias

from anabranch_gateway.domain.routing import Choice

# What retrieval found and generation cited, in their own form: the gateway carries them and does not read them.
Passage = NewType("Passage", object)
Citation = NewType("Citation", object)

ZERO = timedelta()


class FinishReason(IntEnum):
    """Why an answer ended; the numbers are the contract's."""

    UNSPECIFIED = 0
    STOP = 1
    LENGTH = 2
    ABSTAINED = 3
    TIMEOUT = 4
    BLOCKED = 5

    @classmethod
    def _missing_(cls, value: object) -> FinishReason:  # noqa: ARG003  enum calls it with the value
        return cls.UNSPECIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What retrieval found, best first."""

    passages: Sequence[Passage]
    index_generation: int
    embedding_version: str
    embed_time: timedelta
    search_time: timedelta
    # The reranker that was in fact applied, and the feature set of the passages' features; empty: none.
    reranker_version: str = ""
    feature_set: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens in the backend's own tokenizer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """The parts of an answer's time. `first_token` counts from the question."""

    condense: timedelta = ZERO
    embed: timedelta = ZERO
    search: timedelta = ZERO
    generate: timedelta = ZERO
    first_token: timedelta = ZERO
    total: timedelta = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Cited:
    """Generation cites a span."""

    citation: Citation


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """The end of what generation says."""

    reason: FinishReason
    usage: Usage
    abstained: bool
    backend: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """First event of an answer: sent before anything downstream is asked."""

    answer_id: str
    variant_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """What the answer will be drawn from."""

    search_query: str
    passages: Sequence[Passage]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """The next piece of text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Last event of an answer."""

    usage: Usage
    timings: Timings
    abstained: bool
    citations: Sequence[Citation]
    reason: FinishReason


AskEvent: TypeAlias = Started | Retrieved | Delta | Finished
GenerateEvent: TypeAlias = Delta | Cited | Generated


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer."""

    answer_id: str
    variant_id: str
    search_query: str
    text: str
    finished: Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One answer with everything that led to it, for the loop that learns from it.

    Without content, texts are empty and whoever writes it down leaves out what passages and citations say.
    """

    answer_id: str
    tenant: str
    corpus: str
    key_id: str
    user_id: str
    session_id: str
    choice: Choice
    question: str
    search_query: str
    answer: str
    found: Found
    finished: Finished
    backend: str
    model: str
    served_at: datetime
    has_content: bool = True
    # The passages are shown in an order of the gateway's; each still has the rank that retrieval gave it.
    ranks_randomised: bool = False

    def without_content(self) -> Served:
        """The same with nothing in it that was asked or answered."""
        return replace(self, has_content=False, question="", search_query="", answer="")
