"""Trace context across the broker: own spans and links, so that nothing is patched and nothing leaks.

An event carries the context of the span that published it. A batch of one is handled in a child of that span; a
larger batch in a span of its own, linked to each record's. What a record causes goes on in the record's trace, so
one document is one trace from its producer to the index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

__all__ = ["handling", "onward", "publishing"]

_CARRIED: Final = ("traceparent", "tracestate", "baggage")
_TRACER: Final = trace.get_tracer("anabranch_bus")


def onward(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that let what this record causes go on in its trace."""
    span = trace.get_current_span()
    own = propagate.extract(headers)
    cause = trace.get_current_span(own).get_span_context()
    current = span.get_span_context()
    if current.is_valid and current.trace_id == cause.trace_id:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier
    return {name: headers[name] for name in _CARRIED if name in headers}


@contextmanager
def handling(topic: str, group: str, headers: Sequence[Mapping[str, str]]) -> Iterator[None]:
    """Spans the handling of a batch."""
    contexts = [propagate.extract(h) for h in headers if "traceparent" in h]
    links = [Link(trace.get_current_span(c).get_span_context()) for c in contexts]
    parent = contexts[0] if len(headers) == 1 and contexts else context.Context()
    attributes = {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.destination.name": topic,
        "messaging.consumer.group.name": group,
        "messaging.batch.message_count": len(headers),
    }
    with _TRACER.start_as_current_span(
        f"process {topic}", context=parent, kind=SpanKind.CONSUMER, links=links, attributes=attributes
    ):
        yield


@contextmanager
def publishing(topics: Sequence[str], count: int) -> Iterator[None]:
    """Spans a publication until it is acknowledged."""
    name = topics[0] if len(topics) == 1 else f"{len(topics)} topics"
    attributes = {
        "messaging.system": "kafka",
        "messaging.operation.type": "send",
        "messaging.destination.name": name,
        "messaging.batch.message_count": count,
    }
    with _TRACER.start_as_current_span(f"send {name}", kind=SpanKind.PRODUCER, attributes=attributes) as span:
        try:
            yield
        except Exception as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
