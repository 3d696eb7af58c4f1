"""Logs, traces, metrics and the closed list of their names. See README.md.

Importing this package does no IO and reads no environment; `configure()` does, once, at start.
"""

from __future__ import annotations

from anabranch_observability import names
from anabranch_observability.context import adopt, new_trace, parse_traceparent, traceparent
from anabranch_observability.logs import Format, Level, Logger, bind, configure_logs, get_logger
from anabranch_observability.metrics import CONTENT_TYPE, UnknownName, counter, exposition, gauge, histogram
from anabranch_observability.names import Attribute, CounterName, GaugeName, HistogramName, LogEvent, SpanName
from anabranch_observability.tracing import enabled, failed, span, switch, tracer, wanted

__all__ = [
    "CONTENT_TYPE",
    "Attribute",
    "CounterName",
    "Format",
    "GaugeName",
    "HistogramName",
    "Level",
    "LogEvent",
    "Logger",
    "SpanName",
    "UndeclaredNames",
    "UnknownName",
    "adopt",
    "bind",
    "configure",
    "counter",
    "enabled",
    "exposition",
    "failed",
    "gauge",
    "get_logger",
    "histogram",
    "names",
    "new_trace",
    "parse_traceparent",
    "shutdown",
    "span",
    "traceparent",
    "tracer",
]


class UndeclaredNames(TypeError):  # noqa: N818  reads as what went wrong
    """The closed list of names breaks its own rules; the message names every fault."""


def configure(*, service: str, level: Level = "info", format: Format = "auto") -> None:  # noqa: A002  the setting's name
    """Set up logs, and traces and metrics over OTLP when OTEL_EXPORTER_OTLP_ENDPOINT is set. Once a process.

    Raises UndeclaredNames when the list of names is faulty.
    """
    faults = names.faults()
    if faults:
        raise UndeclaredNames("; ".join(faults))
    configure_logs(service=service, level=level, format=format)
    if wanted():
        from anabranch_observability import otlp  # noqa: PLC0415  the SDK costs 100 ms and is not wanted otherwise

        otlp.start(service=service)
        switch(on=True)


def shutdown() -> None:
    """Send what is buffered (3 s at most) and stop exporting. Blocks: call it off the event loop."""
    if enabled():
        from anabranch_observability import otlp  # noqa: PLC0415  as in configure

        switch(on=False)
        otlp.stop()
