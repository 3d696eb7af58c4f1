"""Names of retrieval."""

from __future__ import annotations

from typing import Final

from anabranch_observability.names.kinds import Attribute, CounterName, HistogramName, LogEvent, SpanName

__all__ = ["CHANGES", "EMBED_SECONDS", "SEARCH_SECONDS", "Attr", "Log", "Span"]


class Log(LogEvent):
    """Log events."""

    WORK_DELAYED = "retrieval.work.delayed"


class Span(SpanName):
    """Span names."""


class Attr(Attribute):
    """Span attributes."""


CHANGES: Final = CounterName("anabranch_retrieval_changes_total", "Changes of documents taken.", ("outcome",))
EMBED_SECONDS: Final = HistogramName("anabranch_retrieval_embed_seconds", "Until a query had its vector.", ())
SEARCH_SECONDS: Final = HistogramName("anabranch_retrieval_search_seconds", "From vector to passages.", ())
