"""Trace context across the broker: own spans and links, so that nothing is patched and nothing leaks.

An event carries the context it was made in. A batch of one is handled in a child of that span; a
larger batch in a span of its own, linked to each record's. What a record causes goes on in the record's trace, so
one document is one trace from its producer to the index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final

from opentelemetry.trace import SpanKind

from anabranch_observability import Attribute, parse_traceparent, span, traceparent
from anabranch_observability.names.bus import Attr, Span

__all__ = ["handling", "onward", "publishing"]

HEADER: Final = "traceparent"


def onward(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the header that lets what a record (with these headers) causes go on in the record's trace."""
    cause, current = headers.get(HEADER), traceparent()
    if cause is None or parse_traceparent(cause) is None:
        return {HEADER: current} if current else {}
    # The span at work is the better parent when it is of the record's trace, which it is for a batch of one.
    same = current is not None and current.split("-")[1] == cause.split("-")[1]
    return {HEADER: current if same and current else cause}


def handling(topic: str, group: str, headers: Sequence[Mapping[str, str]]) -> AbstractContextManager[object]:
    """Span the handling of a batch."""
    alone = len(headers) == 1
    attributes: dict[Attribute, str | bool | int | float] = {
        Attr.SYSTEM: "kafka",
        Attr.OPERATION: "process",
        Attr.DESTINATION: topic,
        Attr.GROUP: group,
        Attr.BATCH: len(headers),
    }
    return span(
        Span.PROCESS,
        kind=SpanKind.CONSUMER,
        parent=headers[0].get(HEADER) if alone else None,
        links=[h.get(HEADER) for h in headers],
        attributes=attributes,
    )


def publishing(topics: Sequence[str], count: int) -> AbstractContextManager[object]:
    """Span a publication until it is acknowledged."""
    return span(
        Span.SEND,
        kind=SpanKind.PRODUCER,
        attributes={
            Attr.SYSTEM: "kafka",
            Attr.OPERATION: "send",
            Attr.DESTINATION: ",".join(sorted(set(topics))),
            Attr.BATCH: count,
        },
    )
