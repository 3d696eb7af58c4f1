"""Names of ingestion. Add yours here: see the package's docstring and the neighbouring sections."""

from __future__ import annotations

from typing import Final

from anabranch_observability.names.kinds import Attribute, CounterName, GaugeName, LogEvent, SpanName

__all__ = ["ANSWERS", "FLAGGED", "OVERDUE", "PARKED", "UNCHECKED", "WORKERS", "Attr", "Log", "Span"]


class Log(LogEvent):
    """Log events."""

    DOCUMENT_ANSWERED = "document.answered"
    DOCUMENT_FLAGGED = "document.flagged"
    DOCUMENT_UNCHECKED = "document.unchecked"
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
FLAGGED: Final = CounterName(
    "anabranch_ingestion_flagged_total", "Documents indexed in which guardrails found something.", ("check",)
)
OVERDUE: Final = GaugeName("anabranch_ingestion_overdue_documents", "Accepted documents that nobody answered in time.")
PARKED: Final = CounterName("anabranch_ingestion_parked_total", "Changes put aside because reading them takes long.")
UNCHECKED: Final = CounterName(
    "anabranch_ingestion_unchecked_total", "Checks of documents that could not be made, and what followed.", ("then",)
)
WORKERS: Final = CounterName("anabranch_ingestion_workers_total", "What happened to parser processes.", ("event",))
