"""Names of embedding. Add yours here: see the package's docstring and the neighbouring sections."""

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
    "ENCODE_SECONDS",
    "REMOTE_REQUESTS",
    "ROUND_TEXTS",
    "TEXTS",
    "TOKENS",
    "WAITING_TEXTS",
    "Attr",
    "Log",
    "Span",
]


class Log(LogEvent):
    """Log events."""

    MODEL_LOADED = "model.loaded"
    GRAPH_BUILT = "graph.built"
    GRAPH_DISCARDED = "graph.discarded"
    REMOTE_CHECK_FAILED = "remote.check.failed"


class Span(SpanName):
    """Span names."""

    ENCODE = "texts encode"


class Attr(Attribute):
    """Span attributes."""

    TEXTS = "embedding.texts"
    VERSION = "embedding.version"


TEXTS: Final = CounterName("anabranch_embedding_encoded_total", "Texts embedded.", ("lane", "version"))
TOKENS: Final = CounterName("anabranch_embedding_tokens_total", "Tokens read by models.", ("lane", "version"))
ENCODE_SECONDS: Final = HistogramName(
    "anabranch_embedding_encode_seconds", "Time to embed the texts of one call, queueing included.", ("lane",)
)
ROUND_TEXTS: Final = HistogramName(
    "anabranch_embedding_round_texts", "Queries embedded together.", buckets=(1, 2, 4, 8, 16, 32)
)
WAITING_TEXTS: Final = GaugeName("anabranch_embedding_waiting_texts", "Texts of documents waiting or being embedded.")
REMOTE_REQUESTS: Final = CounterName(
    "anabranch_embedding_remote_requests_total", "Requests to an embeddings endpoint elsewhere.", ("outcome",)
)
