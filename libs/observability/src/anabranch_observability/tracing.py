"""OpenTelemetry, on only when OTEL_EXPORTER_OTLP_ENDPOINT is set; otherwise the SDK is not even imported."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanKind

from anabranch_observability.context import new_trace, parse_traceparent
from anabranch_observability.names import Attribute, SpanName
from anabranch_observability.redaction import redacted

__all__ = ["enabled", "failed", "span", "switch", "tracer", "wanted"]

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_DISABLED = "OTEL_SDK_DISABLED"


_exporting = False


def wanted() -> bool:
    """Does the environment ask for traces?"""
    return bool(os.environ.get(ENDPOINT)) and os.environ.get(_DISABLED, "").lower() != "true"


def switch(*, on: bool) -> None:
    """Say whether spans are recorded from now on. For `configure()`, and for tests with a provider of their own."""
    global _exporting  # noqa: PLW0603  one switch a process, read on every call
    _exporting = on


def enabled() -> bool:
    """Are spans recorded? False until `configure()` found an OTLP endpoint."""
    return _exporting


def tracer() -> trace.Tracer:
    """The process's tracer. Without an endpoint its spans record nothing and pass the current trace on."""
    return trace.get_tracer("anabranch")


@contextmanager
def span(
    name: SpanName | str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: str | None = None,
    links: Sequence[str | None] = (),
    attributes: Mapping[Attribute, str | bool | int | float] | None = None,
) -> Iterator[Span]:
    """Work under a span, current while the block runs.

    `parent` and `links` are traceparent headers. Without `parent` the current span is the parent; when there is none,
    a trace begins, so that log lines inside carry ids even while tracing is off. An exception marks the span.
    """
    remote = parse_traceparent(parent)
    context = trace.set_span_in_context(NonRecordingSpan(remote)) if remote else otel_context.get_current()
    if not enabled():
        current = trace.get_current_span(context)
        if not current.get_span_context().is_valid:
            current = NonRecordingSpan(new_trace())
            context = trace.set_span_in_context(current, context)
        token = otel_context.attach(context)
        try:
            yield current
        finally:
            otel_context.detach(token)
        return
    shown = {str(key): redacted(value, name=str(key)) for key, value in (attributes or {}).items()}
    linked = [trace.Link(link) for link in (parse_traceparent(header) for header in links) if link is not None]
    made = tracer().start_span(name, context, kind, shown, linked)
    with trace.use_span(made, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield made
        except Exception as error:
            failed(made, error)
            raise


def failed(of: Span, error: BaseException) -> None:
    """Mark a span as failed by `error`, with secrets kept out of what is recorded."""
    message = str(redacted(str(error)))
    stack = "".join(traceback.format_exception(error))
    of.add_event(
        "exception",
        {
            "exception.type": type(error).__qualname__,
            "exception.message": message,
            "exception.stacktrace": str(redacted(stack)),
        },
    )
    of.set_status(trace.StatusCode.ERROR, message)
