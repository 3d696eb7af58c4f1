"""One document, one trace: spans as they are recorded when tracing is on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from anabranch import topics
from anabranch.ingestion.v1.events_pb2 import DocumentChunked, DocumentStatusChanged
from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_bus import Batch, Event, MemoryBus, Outcome
from anabranch_observability import span
from anabranch_observability.tracing import switch

SOURCE, MIDDLE, END = (
    topics.UPSTREAM_DOCUMENT_CHANGED,
    topics.INGESTION_DOCUMENT_CHUNKED,
    topics.INGESTION_DOCUMENT_STATUS,
)


@pytest.fixture(scope="module")
def recorded() -> InMemorySpanExporter:
    found = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found))
    trace.set_tracer_provider(provider)
    return found


@pytest.fixture
def exporter(recorded: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    recorded.clear()
    switch(on=True)
    yield recorded
    switch(on=False)


def bus() -> MemoryBus:
    made = MemoryBus()

    @made.subscriber(SOURCE, group="one")
    async def first(batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        outcome = batch.outcome()
        for record in batch:
            outcome.publish(MIDDLE, DocumentChunked(), key=record.key, caused_by=record)
        return outcome

    @made.subscriber(MIDDLE, group="two")
    async def second(batch: Batch[DocumentChunked]) -> Outcome[DocumentChunked]:
        outcome = batch.outcome()
        for record in batch:
            outcome.publish(END, DocumentStatusChanged(), key=record.key, caused_by=record)
        return outcome

    return made


def spans(exporter: InMemorySpanExporter, topic: str) -> list[ReadableSpan]:
    found = exporter.get_finished_spans()
    return [one for one in found if (one.attributes or {}).get("messaging.destination.name") == topic]


async def test_every_hop_of_a_document_is_in_the_trace_of_its_producer(exporter: InMemorySpanExporter) -> None:
    made = bus()
    with span("cli put") as root:
        await made.publish(Event(topic=SOURCE, message=DocumentChanged(text="a"), key="a"))
        root_id = root.get_span_context().trace_id
    hops = [*spans(exporter, SOURCE.name), *spans(exporter, MIDDLE.name)]
    assert len(hops) == 2
    assert {one.context.trace_id for one in hops if one.context} == {root_id}
    first, second = hops
    assert second.parent is not None
    assert first.context is not None
    assert second.parent.span_id == first.context.span_id
    (status,) = made.records(END)
    assert status.headers["traceparent"].split("-")[1] == f"{root_id:032x}"


async def test_a_batch_links_to_the_trace_of_each_record_and_each_goes_on_in_its_own(
    exporter: InMemorySpanExporter,
) -> None:
    made = bus()
    traces = [f"{n:032x}" for n in (1, 2, 3)]
    events = [
        Event(
            topic=SOURCE,
            message=DocumentChanged(text=of),
            key="one partition",
            headers={"traceparent": f"00-{of}-00000000000000aa-01"},
        )
        for of in traces
    ]
    await made.publish(*events)
    (handled,) = spans(exporter, SOURCE.name)
    assert [f"{link.context.trace_id:032x}" for link in handled.links] == traces
    assert [record.headers["traceparent"].split("-")[1] for record in made.records(END)] == traces
