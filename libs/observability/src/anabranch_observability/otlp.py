"""Traces and metrics over OTLP/gRPC. Imported only when an endpoint is configured."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

__all__ = ["start", "stop"]

_FLUSH_MS = 3_000


def start(*, service: str) -> None:
    """Begin to export; the endpoint, headers and sampling come from OpenTelemetry's own environment variables."""
    resource = Resource.create({"service.name": service, "service.namespace": "anabranch"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def stop() -> None:
    """Send what is buffered and stop."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.force_flush(_FLUSH_MS)
        provider.shutdown()
