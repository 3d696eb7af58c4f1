"""The trace a piece of work belongs to: read from a header, carried in a context variable, written to a header.

Works the same with tracing on or off: when off, ids still flow from hop to hop and into every log line, and no span
is recorded.
"""

from __future__ import annotations

import secrets

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

__all__ = ["adopt", "new_trace", "parse_traceparent", "traceparent"]

_VERSION_LENGTH, _TRACE_LENGTH, _SPAN_LENGTH = 2, 32, 16
_LENGTH = _VERSION_LENGTH + _TRACE_LENGTH + _SPAN_LENGTH + 2 + 3


def traceparent() -> str | None:
    """The W3C header of the current span; None outside of any trace."""
    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return None
    return f"00-{current.trace_id:032x}-{current.span_id:016x}-{int(current.trace_flags):02x}"


def parse_traceparent(header: str | None) -> SpanContext | None:
    """The remote span a W3C header names; None when there is none or it is malformed (then a new trace begins)."""
    if not header or len(header) != _LENGTH or header[2] != "-" or header[35] != "-" or header[52] != "-":
        return None
    try:
        trace_id, span_id, flags = int(header[3:35], 16), int(header[36:52], 16), int(header[53:55], 16)
    except ValueError:
        return None
    if header[:2] == "ff" or not trace_id or not span_id:
        return None
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags & 1))


def new_trace() -> SpanContext:
    """A trace that begins here, unsampled: ids for log lines while tracing is off."""
    return SpanContext(secrets.randbits(128) or 1, secrets.randbits(64) or 1, is_remote=False)


def adopt(header: str | None) -> None:
    """Make the remote span of `header` (or a new trace) current for the rest of this task.

    There is nothing to undo: a task's context ends with the task. Use it at an edge that owns its task.
    """
    span = NonRecordingSpan(parse_traceparent(header) or new_trace())
    otel_context.attach(trace.set_span_in_context(span))
