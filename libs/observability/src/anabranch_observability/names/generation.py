"""Names of generation. Add yours here: see the package's docstring and the neighbouring sections."""

from __future__ import annotations

from typing import Final

from anabranch_observability.names.kinds import (
    Attribute,
    CounterName,
    GaugeName,
    HistogramName,
    LogEvent,
    SpanName,
)

__all__ = [
    "ANSWERS",
    "ANSWERS_RUNNING",
    "ANSWER_SECONDS",
    "CASCADES",
    "CITATIONS",
    "FIRST_TOKEN_SECONDS",
    "PROMPTS",
    "TOKENS",
    "UPSTREAM_RETRIES",
    "Attr",
    "Log",
    "Span",
]


class Log(LogEvent):
    """Log events."""

    BACKEND_LOADED = "generation.backend.loaded"
    PROMPT_DOUBTED = "generation.prompt.doubted"
    PROMPT_DROPPED = "generation.prompt.dropped"
    PROMPT_MOVED = "generation.prompt.moved"
    UPSTREAM_RETRIED = "generation.upstream.retried"


class Span(SpanName):
    """Span names."""

    ANSWER = "answer generate"
    CONDENSE = "question condense"


class Attr(Attribute):
    """Span attributes."""

    BACKEND = "generation.backend"
    MODEL = "generation.model"
    PASSAGES = "generation.passages"
    REASON = "generation.finish_reason"


ANSWERS: Final = CounterName("anabranch_generation_answers_total", "Answers ended.", ("backend", "reason"))
ANSWERS_RUNNING: Final = GaugeName("anabranch_generation_answers_running", "Answers being written.")
ANSWER_SECONDS: Final = HistogramName("anabranch_generation_answer_seconds", "Time to write an answer.", ("backend",))
FIRST_TOKEN_SECONDS: Final = HistogramName(
    "anabranch_generation_first_token_seconds", "Time to the first piece of an answer.", ("backend",)
)
TOKENS: Final = CounterName("anabranch_generation_tokens_total", "Tokens read and written.", ("backend", "kind"))
CITATIONS: Final = CounterName("anabranch_generation_citations_total", "Citations given.", ("backend",))
UPSTREAM_RETRIES: Final = CounterName(
    "anabranch_generation_upstream_retries_total", "Requests to a model server tried again.", ("cause",)
)
CASCADES: Final = CounterName(
    "anabranch_generation_cascades_total",
    "Answers that a cheaper model might have written: kept, escalated, drawn, failed or skipped.",
    ("outcome",),
)
PROMPTS: Final = GaugeName("anabranch_generation_prompts", "Versions of prompts known to this replica.")
