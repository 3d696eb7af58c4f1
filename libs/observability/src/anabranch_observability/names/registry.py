"""Names of registry. Add yours here: see the package's docstring and the neighbouring sections."""

from __future__ import annotations

from anabranch_observability.names.kinds import Attribute, LogEvent, SpanName

__all__ = ["Attr", "Log", "Span"]


class Log(LogEvent):
    """Log events."""

    DECISION_IGNORED = "registry.decision.ignored"
    USAGE_IGNORED = "registry.usage.ignored"


class Span(SpanName):
    """Span names."""


class Attr(Attribute):
    """Span attributes."""
