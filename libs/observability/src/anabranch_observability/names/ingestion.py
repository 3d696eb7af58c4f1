"""Names of ingestion. Add yours here: see the package's docstring and the neighbouring sections."""

from __future__ import annotations

from typing import Final

from anabranch_observability.names.kinds import Attribute, CounterName, GaugeName, LogEvent, SpanName

__all__ = ["ANSWERS", "OVERDUE", "PARKED", "WORKERS", "Attr", "Log", "Span"]


class Log(LogEvent):
    """Log events."""

    DOCUMENT_ANSWERED = "document.answered"
    DOCUMENT_REJECTED = "document.rejected"
    DOCUMENTS_OVERDUE = "documents.overdue"
    CHANGE_PARKED = "change.parked"
    CHANGE_POSTPONED = "change.postponed"
    READER_FAILED = "reader.failed"
    UPKEEP_FAILED = "upkeep.failed"
    WORKER_STARTED = "worker.started"
    WORKER_RETIRED = "worker.retired"
    WORKER_LOST = "worker.lost"


class Span(SpanName):
    """Span names."""


class Attr(Attribute):
    """Span attributes."""


ANSWERS: Final = CounterName("anabranch_ingestion_answers_total", "Answers to changes.", ("state", "reason"))
OVERDUE: Final = GaugeName("anabranch_ingestion_overdue_documents", "Accepted documents that nobody answered in time.")
PARKED: Final = CounterName("anabranch_ingestion_parked_total", "Changes put aside because reading them takes long.")
WORKERS: Final = CounterName("anabranch_ingestion_workers_total", "What happened to parser processes.", ("event",))
