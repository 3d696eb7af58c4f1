"""What an answer is made of, and what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, NewType, TypeAlias

from anabranch_gateway.domain.guards import Guard, GuardResult
from anabranch_gateway.domain.questions import Turn
from anabranch_gateway.domain.routing import Choice

if TYPE_CHECKING:  # it counts the tokens that are defined here
    from anabranch_gateway.domain.costs import ModelCall

# What retrieval found and generation cited, in their own form: only `placeholders` reads them.
Passage = NewType("Passage", object)
Citation = NewType("Citation", object)
# What was known when a model was chosen, in generation's own form.
CascadeTrace = NewType("CascadeTrace", object)

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
    # Unit vector of the query, int8, where it was asked for.
    query_vector: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens in the backend's own tokenizer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """The parts of an answer's time. `first_token` counts from the question; of guardrails only the wait for them."""

    condense: timedelta = ZERO
    embed: timedelta = ZERO
    search: timedelta = ZERO
    generate: timedelta = ZERO
    first_token: timedelta = ZERO
    total: timedelta = ZERO
    guard_input: timedelta = ZERO
    guard_output: timedelta = ZERO


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
    # Prompt that was rendered; empty: the backend needs none, or its own.
    prompt_version: str = ""
    # Calls of models that it took, in their order.
    calls: Sequence[ModelCall] = ()
    # A cheaper model's draft was not good enough.
    escalated: bool = False
    cascade: CascadeTrace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condensed:
    """A question that needs no history, and the call of a model that it took, if any."""

    question: str
    call: ModelCall | None = None


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
    """Last event of an answer. `message` is what the person asking is told when it was blocked."""

    usage: Usage
    timings: Timings
    abstained: bool
    citations: Sequence[Citation]
    reason: FinishReason
    message: str = ""
    # It was given before; what it cost in millionths of a US dollar, None: not known.
    cached: bool = False
    cost_micros: int | None = None


AskEvent: TypeAlias = Started | Retrieved | Delta | Guard | Finished
GenerateEvent: TypeAlias = Delta | Cited | Generated


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer. After a block its text is the sentence for the person asking."""

    answer_id: str
    variant_id: str
    search_query: str
    text: str
    finished: Finished
    guards: Sequence[Guard] = ()


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
    # Those that were used, as generation and guardrails tell them; empty: the variant's.
    prompt_version: str = ""
    policy_version: str = ""
    history: Sequence[Turn] = ()
    variables: Mapping[str, object] = field(default_factory=dict)
    guards: Sequence[GuardResult] = ()
    escalated: bool = False
    # The answer that this one repeats; empty: it is new.
    cached_from: str = ""
    cascade: CascadeTrace | None = None

    def without_content(self) -> Served:
        """The same with nothing in it that was asked or answered."""
        return replace(self, has_content=False, question="", search_query="", answer="", history=(), variables={})
