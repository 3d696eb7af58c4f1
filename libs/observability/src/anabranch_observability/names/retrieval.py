"""Names of retrieval."""

from __future__ import annotations

from typing import Final

from anabranch_observability.names.kinds import Attribute, CounterName, HistogramName, LogEvent, SpanName

__all__ = [
    "CHANGES",
    "EMBED_SECONDS",
    "RERANKED",
    "RERANKER_LOADS",
    "RERANK_SECONDS",
    "SEARCH_SECONDS",
    "Attr",
    "Log",
    "Span",
]


class Log(LogEvent):
    """Log events."""

    RERANKER_LOADED = "retrieval.reranker.loaded"
    RERANKER_REFUSED = "retrieval.reranker.refused"
    WORK_DELAYED = "retrieval.work.delayed"


class Span(SpanName):
    """Span names."""


class Attr(Attribute):
    """Span attributes."""


CHANGES: Final = CounterName("anabranch_retrieval_changes_total", "Changes of documents taken.", ("outcome",))
EMBED_SECONDS: Final = HistogramName("anabranch_retrieval_embed_seconds", "Until a query had its vector.", ())
SEARCH_SECONDS: Final = HistogramName("anabranch_retrieval_search_seconds", "From vector to passages.", ())
RERANK_SECONDS: Final = HistogramName("anabranch_retrieval_rerank_seconds", "Features and scores of candidates.", ())
RERANKED: Final = CounterName(
    "anabranch_retrieval_reranked_total",
    "Searches asked to rerank, by whether it was done.",
    ("outcome",),
)
RERANKER_LOADS: Final = CounterName(
    "anabranch_retrieval_reranker_loads_total", "Rerankers loaded or refused.", ("outcome",)
)
