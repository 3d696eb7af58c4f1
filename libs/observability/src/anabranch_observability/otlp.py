"""Traces and metrics over OTLP/gRPC. Imported only when an endpoint is configured.

Metrics have one source, the Prometheus registry: what `/metrics` shows is what is pushed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from time import time_ns
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.core import Metric as Family
from prometheus_client.core import Sample

from anabranch_observability.metrics import registry

__all__ = ["metrics_data", "start", "stop"]

_FLUSH_MS: Final = 3_000
_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_DEFAULT_INTERVAL_MS: Final = 60_000
_CUMULATIVE = AggregationTemporality.CUMULATIVE

_stops: list[Callable[[], None]] = []


def start(*, service: str) -> None:
    """Begin to export; the endpoint, headers and sampling come from OpenTelemetry's own environment variables."""
    resource = Resource.create({"service.name": service, "service.namespace": "anabranch"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)

    def stop_traces() -> None:
        provider.force_flush(_FLUSH_MS)
        provider.shutdown()

    pusher = _Pusher(resource)
    pusher.start()
    _stops[:] = [pusher.stop, stop_traces]


def stop() -> None:
    """Send what is buffered and stop."""
    for step in _stops:
        step()
    _stops.clear()


class _Pusher:
    """Sends all metrics every OTEL_METRIC_EXPORT_INTERVAL milliseconds, and once more at the end."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._exporter = OTLPMetricExporter()
        self._begun = time_ns()
        self._every = float(os.environ.get(_INTERVAL, _DEFAULT_INTERVAL_MS)) / 1000
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics over OTLP", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(_FLUSH_MS / 1000)
        self._exporter.shutdown(_FLUSH_MS)

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            self._push()
        self._push()

    def _push(self) -> None:
        # The exporter logs what it could not send, and never raises.
        data = metrics_data(registry().collect(), self._resource, begun=self._begun, now=time_ns())
        self._exporter.export(data, timeout_millis=_FLUSH_MS)


def metrics_data(families: Iterable[Family], resource: Resource, *, begun: int, now: int) -> MetricsData:
    """Prometheus's families as OTLP's cumulative metrics; times in nanoseconds since 1970."""
    metrics = [_metric(family, begun, now) for family in families if family.samples]
    scope = ScopeMetrics(scope=InstrumentationScope("anabranch"), metrics=metrics, schema_url="")
    return MetricsData([ResourceMetrics(resource=resource, scope_metrics=[scope], schema_url="")])


def _metric(family: Family, begun: int, now: int) -> Metric:
    if family.type == "histogram":
        histogram = Histogram(_buckets(family, begun, now), _CUMULATIVE)
        return Metric(family.name, family.documentation, family.unit, histogram)
    counted = family.type == "counter"
    samples = [one for one in family.samples if not counted or one.name.endswith("_total")]
    points = [NumberDataPoint(one.labels, begun if counted else 0, now, one.value) for one in samples]
    if counted:
        return Metric(f"{family.name}_total", family.documentation, family.unit, Sum(points, _CUMULATIVE, True))  # noqa: FBT003  positional there
    return Metric(family.name, family.documentation, family.unit, Gauge(points))


def _buckets(family: Family, begun: int, now: int) -> list[HistogramDataPoint]:
    series: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for sample in family.samples:
        key = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        series.setdefault(key, []).append(sample)
    return [_point(dict(key), samples, begun, now) for key, samples in series.items()]


def _point(labels: dict[str, str], samples: Sequence[Sample], begun: int, now: int) -> HistogramDataPoint:
    bounds, cumulative, total = [], [], 0.0
    for sample in samples:
        if sample.name.endswith("_bucket"):
            bounds.append(float(sample.labels["le"]))
            cumulative.append(int(sample.value))
        elif sample.name.endswith("_sum"):
            total = sample.value
    counts = [count - before for count, before in zip(cumulative, [0, *cumulative], strict=False)]
    unknown: Any = None  # Prometheus keeps neither the least nor the greatest value; OTLP's fields are optional
    return HistogramDataPoint(
        attributes=labels,
        start_time_unix_nano=begun,
        time_unix_nano=now,
        count=sum(counts),
        sum=total,
        bucket_counts=counts,
        explicit_bounds=bounds[:-1],
        min=unknown,
        max=unknown,
    )
