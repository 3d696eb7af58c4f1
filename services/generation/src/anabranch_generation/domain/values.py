"""Questions, passages, citations and the events of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from typing import TypeAlias

from anabranch_faults import Invalid, TooLarge
from anabranch_prompts.values import PromptTemplate

MAX_QUESTION = 4096
MAX_PASSAGES = 100
MAX_HISTORY = 64
MAX_SENTENCES = 10
MAX_TOKENS = 32_768
MAX_CONTEXT_TOKENS = 200_000
MAX_STOPS = 16
MAX_TEMPERATURE = 2.0
MAX_CANARY = 256


class Role(Enum):
    """Who spoke."""

    USER = "user"
    ASSISTANT = "assistant"


class FinishReason(Enum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    ABSTAINED = "abstained"
    TIMEOUT = "timeout"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of code points, [start, end)."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRef:
    """One version of one document."""

    tenant: str = ""
    corpus: str = ""
    document_id: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a passage: offsets into the passage's text, and its cosine with the query where known."""

    start: int
    end: int
    similarity: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A chunk that was found. `start` is where its text begins in the document's extracted text.

    `sentences` may be empty: whoever needs sentences then splits the text itself.
    """

    text: str
    document: DocumentRef = field(default_factory=DocumentRef)
    chunk_id: str = ""
    start: int = 0
    title: str = ""
    title_path: tuple[str, ...] = ()
    page: int = 0
    source_uri: str = ""
    score: float = 0.0
    vector_score: float = 0.0
    keyword_score: float = 0.0
    sentences: tuple[Sentence, ...] = ()

    def __post_init__(self) -> None:
        """Refuses sentences that do not lie in the text."""
        size = len(self.text)
        for sentence in self.sentences:
            if not 0 <= sentence.start <= sentence.end <= size:
                raise Invalid(
                    f"sentence [{sentence.start}, {sentence.end}) of chunk {self.chunk_id or '(unnamed)'} lies outside"
                    f" its text of {size} characters",
                    field="passages.sentences",
                    reason="SPAN_OUTSIDE_TEXT",
                )

    def in_document(self, start: int, end: int) -> Span:
        """A range of the passage's text as a range of the document's."""
        return Span(self.start + start, self.start + end)


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance of a conversation."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a language model is told. Empty parts: the service's own words."""

    version: str = ""
    system: str = ""
    template: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """A cheap model is asked first; `explore` is the share whose model is drawn. Raises Invalid with the field."""

    backend: str = ""
    model: str = ""
    skip_above: float = 0.0
    escalate_below: float = 0.0
    explore: float = 0.0

    def __post_init__(self) -> None:
        """Checks every range."""
        _within("cascade.skip_above", self.skip_above, 1)
        _within("cascade.escalate_below", self.escalate_below, 1)
        _within("cascade.explore", self.explore, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to answer; 0 and empty mean the default of the backend. Raises Invalid with the field at fault."""

    backend: str = ""
    model: str = ""
    adapter: str = ""
    max_tokens: int = 0
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    context_tokens: int = 0
    max_sentences: int = 0
    abstain_below: float = 0.0
    prompt: Prompt = field(default_factory=Prompt)
    prompt_ref: str = ""
    cascade: Cascade | None = None

    def __post_init__(self) -> None:
        """Checks every range."""
        _within("max_tokens", self.max_tokens, MAX_TOKENS)
        _within("context_tokens", self.context_tokens, MAX_CONTEXT_TOKENS)
        _within("max_sentences", self.max_sentences, MAX_SENTENCES)
        _within("temperature", self.temperature, MAX_TEMPERATURE)
        _within("abstain_below", self.abstain_below, 1)
        if len(self.stop) > MAX_STOPS or not all(self.stop):
            raise Invalid(f"takes up to {MAX_STOPS} texts, none of them empty", field="settings.stop")


def _within(name: str, value: float, most: float) -> None:
    if not 0 <= value <= most:  # a NaN fails this too
        raise Invalid(f"must be 0 to {most}, is {value}", field=f"settings.{name}", reason="OUT_OF_RANGE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question with what was found for it, best first. Raises Invalid with the field at fault.

    `prompt` is the registry's, where the settings name one; `canary` must never show up in the answer; with
    `mark_passages` whatever comes from outside is marked as data throughout. With a `response_schema` the answer is to
    be JSON that satisfies it.
    """

    question: str
    passages: tuple[Passage, ...] = ()
    settings: Settings = field(default_factory=Settings)
    history: tuple[Turn, ...] = ()
    variables: Mapping[str, object] = field(default_factory=dict)
    canary: str = ""
    mark_passages: bool = False
    response_schema: Mapping[str, object] | None = None
    prompt: PromptTemplate | None = None

    def __post_init__(self) -> None:
        """Checks sizes and that there is a question."""
        check_question(self.question)
        if len(self.passages) > MAX_PASSAGES:
            raise TooLarge(f"holds {len(self.passages)} passages; the limit is {MAX_PASSAGES}", field="passages")
        if len(self.history) > MAX_HISTORY:
            raise TooLarge(f"holds {len(self.history)} turns; the limit is {MAX_HISTORY}", field="history")
        if len(self.canary) > MAX_CANARY:
            raise TooLarge(f"has {len(self.canary)} characters; the limit is {MAX_CANARY}", field="canary")

    def with_prompt(self, prompt: PromptTemplate) -> Request:
        """The request with a prompt, and with what that fixes where the settings say nothing."""
        settings = replace(
            self.settings,
            temperature=self.settings.temperature or prompt.temperature,
            max_tokens=self.settings.max_tokens or prompt.max_tokens,
            stop=self.settings.stop or prompt.stop,
        )
        return replace(self, settings=settings, prompt=prompt)


def check_question(question: str) -> None:
    """Raises Invalid when there is nothing to answer, or too much."""
    if not question.strip():
        raise Invalid("is empty", field="question", reason="EMPTY")
    if len(question) > MAX_QUESTION:
        raise TooLarge(f"has {len(question)} characters; the limit is {MAX_QUESTION}", field="question")


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """Ties a span of the answer to a span of a document.

    `text` is exactly the document's text over `span`; `answer_span` is what it supports in the answer's text;
    `number` is the [n] that stands in the answer, 0 where none does; `support` is 0 to 1.
    """

    number: int
    passage: Passage
    text: str
    span: Span
    answer_span: Span
    support: float


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, counted by the backend."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One call of a model; `draft`: what it said was not used."""

    backend: str
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    draft: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What was known when a cascade chose, and what it chose. `draft_support` is None where nothing was drafted.

    `explored`: each model had the same chance.
    """

    difficulty: float
    draft_support: float | None = None
    strong: bool = True
    explored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The end of an answer. `time_to_first_token` is None when there was none.

    `asked` is False when no model was: an abstention that needed none. `prompt_version` is that of the prompt rendered.
    """

    reason: FinishReason
    usage: Usage = field(default_factory=Usage)
    abstained: bool = False
    support: float = 0.0
    backend: str = ""
    model: str = ""
    time_to_first_token: timedelta | None = None
    asked: bool = True
    prompt_version: str = ""
    calls: tuple[ModelCall, ...] = ()
    trace: Trace | None = None


Event: TypeAlias = Delta | Citation | Finished


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """Something that can generate, and with which models; its default first. `prompted`: it is told a prompt."""

    name: str
    models: tuple[str, ...] = ()
    prompted: bool = False


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What a model made of a follow-up; empty when it had nothing to say."""

    text: str
    model: str = ""
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class Condensed:
    """A question that needs no history; `changed` is False when it needed none already."""

    question: str
    changed: bool
    call: ModelCall | None = None
