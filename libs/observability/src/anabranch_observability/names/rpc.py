"""Names of the rpc library. Attributes follow OpenTelemetry's RPC conventions."""

from __future__ import annotations

from typing import Final

from anabranch_observability.names.kinds import Attribute, CounterName, GaugeName, HistogramName, LogEvent

__all__ = ["REQUESTS", "REQUESTS_IN_FLIGHT", "REQUEST_SECONDS", "Attr", "Log"]


class Log(LogEvent):
    """Log events."""

    REQUEST_FINISHED = "rpc.request.finished"
    REQUEST_REFUSED = "rpc.request.refused"
    REQUEST_CANCELLED = "rpc.request.cancelled"
    REQUEST_FAILED = "rpc.request.failed"
    SERVER_STARTED = "rpc.server.started"
    SERVER_STOPPED = "rpc.server.stopped"


class Attr(Attribute):
    """Span attributes."""

    SYSTEM = "rpc.system"
    METHOD = "rpc.method"
    STATUS = "rpc.grpc.status_code"


REQUESTS: Final = CounterName("anabranch_rpc_requests_total", "Requests answered.", ("method", "code"))
REQUEST_SECONDS: Final = HistogramName("anabranch_rpc_request_seconds", "Time to answer a request.", ("method",))
REQUESTS_IN_FLIGHT: Final = GaugeName("anabranch_rpc_requests_in_flight", "Requests being answered.", ("method",))
