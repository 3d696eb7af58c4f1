"""Traces and metrics leave only when an endpoint is set; then they arrive, without secrets."""

import asyncio
import os
import sys
import timeit
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from anabranch_observability import span

OFF = """
import sys
from anabranch_observability import configure, shutdown, span
configure(service="thing", format="json")
with span("some work") as current:
    assert not current.is_recording()
shutdown()
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""

ON = """
from anabranch_observability import configure, counter, histogram, shutdown, span
from anabranch_observability.names import rpc as names
configure(service="thing", format="json")
counter(names.REQUESTS).labels(method="m", code="OK").inc(3)
histogram(names.REQUEST_SECONDS).labels(method="m").observe(0.02)
with span("outer work"):
    try:
        with span("inner work", attributes={names.Attr.METHOD: "Bearer swordfish-123456"}):
            raise ValueError("password=swordfish")
    except ValueError:
        pass
shutdown()
"""


class Collector:
    def __init__(self) -> None:
        self.endpoint = ""
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.services: set[str] = set()

    async def traces(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            self.services |= {
                one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()

    async def measures(self, request: Any, context: Any) -> Any:
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                self.metrics |= {metric.name: metric for metric in scope.metrics}
        return metrics_service_pb2.ExportMetricsServiceResponse()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    found = Collector()
    server = grpc.aio.server()
    traces: Any = trace_service_pb2_grpc.TraceServiceServicer()
    traces.Export = found.traces
    add_traces: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add_traces(traces, server)
    metrics: Any = metrics_service_pb2_grpc.MetricsServiceServicer()
    metrics.Export = found.measures
    add_metrics: Any = metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server
    add_metrics(metrics, server)
    found.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield found
    await server.stop(0)


async def python(program: str, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), stdout=asyncio.subprocess.PIPE, env={**os.environ, **environment}
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().strip()


@pytest.mark.connected
async def test_without_an_endpoint_the_sdk_is_not_even_imported() -> None:
    assert await python(OFF, OTEL_EXPORTER_OTLP_ENDPOINT="") == "[]"


@pytest.mark.connected
async def test_with_an_endpoint_spans_and_metrics_arrive_without_secrets(collector: Collector) -> None:
    await python(ON, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
    assert collector.services == {"thing"}
    spans = {one.name: one for one in collector.spans}
    assert spans["inner work"].trace_id == spans["outer work"].trace_id
    assert spans["inner work"].parent_span_id == spans["outer work"].span_id
    assert [event.name for event in spans["inner work"].events] == ["exception"]
    assert "swordfish" not in str(collector.spans)
    (requests,) = collector.metrics["anabranch_rpc_requests_total"].sum.data_points
    assert requests.as_double == 3
    (seconds,) = collector.metrics["anabranch_rpc_request_seconds"].histogram.data_points
    assert (seconds.count, round(seconds.sum, 3)) == (1, 0.02)
    assert len(seconds.bucket_counts) == len(seconds.explicit_bounds) + 1
    assert [bound for bound, count in zip(seconds.explicit_bounds, seconds.bucket_counts, strict=False) if count] == [
        0.025
    ]


@pytest.mark.connected
async def test_an_endpoint_that_is_away_harms_nobody() -> None:
    await python(ON, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_EXPORTER_OTLP_TIMEOUT="1")


def test_a_span_that_is_not_recorded_costs_microseconds() -> None:
    def work() -> None:
        with span("some work"):
            pass

    # 2.5 us when measured alone; the bound leaves room for a busy machine.
    assert min(timeit.repeat(work, number=1_000, repeat=5)) / 1_000 < 50e-6
