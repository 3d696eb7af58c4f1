"""Names of evaluation."""

from __future__ import annotations

from typing import Final

from anabranch_observability.names.kinds import Attribute, CounterName, LogEvent, SpanName

__all__ = ["DECISIONS", "Attr", "Log", "Span"]


class Log(LogEvent):
    """Log events."""

    EXPERIMENT_DECIDED = "evaluation.experiment.decided"
    LOOK_DELAYED = "evaluation.look.delayed"


class Span(SpanName):
    """Span names."""


class Attr(Attribute):
    """Span attributes."""


DECISIONS: Final = CounterName("anabranch_evaluation_decisions_total", "Decisions on experiments.", ("decision",))
