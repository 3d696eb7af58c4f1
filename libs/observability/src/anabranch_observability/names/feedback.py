"""Names of feedback."""

from __future__ import annotations

from typing import Final

from anabranch_observability.names.kinds import Attribute, CounterName, GaugeName, HistogramName, LogEvent, SpanName

__all__ = ["JOIN_DELAY_SECONDS", "REFUSED", "TAKEN", "WAITING", "Attr", "Log", "Span"]


class Log(LogEvent):
    """Log events."""

    UPKEEP_FAILED = "feedback.upkeep.failed"
    USER_ERASED = "feedback.user.erased"


class Span(SpanName):
    """Span names."""


class Attr(Attribute):
    """Span attributes."""


TAKEN: Final = CounterName("anabranch_feedback_taken_total", "Feedback taken.", ("kind", "channel", "state"))
REFUSED: Final = CounterName("anabranch_feedback_refused_total", "Feedback refused.", ("refusal", "channel"))
WAITING: Final = GaugeName("anabranch_feedback_waiting", "Feedback that waits for its answer's record.")
JOIN_DELAY_SECONDS: Final = HistogramName(
    "anabranch_feedback_join_delay_seconds", "How long feedback waited for its answer's record.", ()
)
