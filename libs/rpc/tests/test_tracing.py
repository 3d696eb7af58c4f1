"""With tracing on, a call is a span on both sides, and a bug marks it."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from anabranch.embedding.v1.embedding_service_pb2 import EmbedTextsRequest
from anabranch.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from anabranch_observability import span
from anabranch_observability.tracing import switch
from anabranch_testkit import poll_until

METHOD = "anabranch.embedding.v1.EmbeddingService/EmbedTexts"


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    # A process has one provider for ever; the switch decides whether it is used.
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider(shutdown_on_exit=False)
        trace.set_tracer_provider(provider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    switch(on=True)
    yield exporter
    switch(on=False)
    exporter.shutdown()


async def test_a_call_is_a_span_of_the_caller_and_one_of_the_callee_below_it(
    serve: Any, unary: Any, open_channel: Any, exported: InMemorySpanExporter
) -> None:
    async def work(request: Any) -> None:
        with span("inner work"):
            pass

    server = await serve(unary(work))
    with span("outer work"):
        await EmbeddingServiceStub(open_channel(server.address)).EmbedTexts(EmbedTextsRequest(texts=["a"]))
    await poll_until(lambda: len(exported.get_finished_spans()) == 4)
    by_name = {(one.name, one.kind): one for one in exported.get_finished_spans()}
    chain = [
        by_name["outer work", SpanKind.INTERNAL],
        by_name[METHOD, SpanKind.CLIENT],
        by_name[METHOD, SpanKind.SERVER],
        by_name["inner work", SpanKind.INTERNAL],
    ]
    for above, below in pairwise(chain):
        assert below.parent is not None
        assert above.context is not None
        assert (below.parent.trace_id, below.parent.span_id) == (above.context.trace_id, above.context.span_id)
    assert dict(chain[2].attributes or {})["rpc.grpc.status_code"] == 0


async def test_a_bug_marks_the_span_of_the_callee(
    serve: Any, unary: Any, open_channel: Any, exported: InMemorySpanExporter
) -> None:
    async def buggy(request: Any) -> None:
        raise ValueError("password=swordfish")

    server = await serve(unary(buggy))
    with pytest.raises(grpc.aio.AioRpcError):
        await EmbeddingServiceStub(open_channel(server.address)).EmbedTexts(EmbedTextsRequest(texts=["a"]))
    await poll_until(lambda: len(exported.get_finished_spans()) == 2)
    (served,) = [one for one in exported.get_finished_spans() if one.kind is SpanKind.SERVER]
    assert not served.status.is_ok
    assert [event.name for event in served.events] == ["exception"]
    assert "swordfish" not in served.to_json()
