"""Names of gateway. Add yours here: see the package's docstring and the neighbouring sections."""

from __future__ import annotations

from typing import Final

from anabranch_observability.names.kinds import Attribute, CounterName, GaugeName, HistogramName, LogEvent, SpanName

__all__ = [
    "ANSWERS",
    "ANSWERS_UNRECORDED",
    "ANSWERS_WAITING",
    "ANSWER_SECONDS",
    "HTTP_REQUESTS",
    "HTTP_REQUEST_SECONDS",
    "ROUTES",
    "SESSIONS_SWEPT",
    "Attr",
    "Log",
    "Span",
]


class Log(LogEvent):
    """Log events."""

    KEY_CREATED = "gateway.key.created"
    KEY_FILE_MISSING = "gateway.key_file.missed"
    ROUTING_CHANGED = "gateway.routing.changed"
    ROUTING_DROPPED = "gateway.routing.dropped"
    ROUTING_REFUSED = "gateway.routing.refused"
    RECORDS_DELAYED = "gateway.records.delayed"
    RECORDS_LOST = "gateway.records.lost"
    SESSIONS_SWEPT = "gateway.sessions.swept"
    SWEEP_FAILED = "gateway.sweep.failed"
    HTTP_STARTED = "gateway.http.started"
    HTTP_FAILED = "gateway.http.failed"
    HTTP_REFUSED = "gateway.http.refused"


class Span(SpanName):
    """Span names."""


class Attr(Attribute):
    """Span attributes."""


ANSWERS: Final = CounterName("anabranch_gateway_answers_total", "Answers served.", ("reason", "backend"))
ANSWER_SECONDS: Final = HistogramName(
    "anabranch_gateway_answer_seconds", "Time of an answer, by its parts.", ("stage",)
)
ANSWERS_UNRECORDED: Final = CounterName(
    "anabranch_gateway_answers_unrecorded_total", "Answers served whose record was lost.", ("reason",)
)
ANSWERS_WAITING: Final = GaugeName("anabranch_gateway_answers_waiting", "Records of answers not yet published.")
HTTP_REQUESTS: Final = CounterName(
    "anabranch_gateway_http_requests_total", "HTTP requests answered.", ("route", "status")
)
HTTP_REQUEST_SECONDS: Final = HistogramName(
    "anabranch_gateway_http_request_seconds", "Time to answer an HTTP request.", ("route",)
)
ROUTES: Final = GaugeName("anabranch_gateway_routes", "Scopes that have a route.")
SESSIONS_SWEPT: Final = CounterName("anabranch_gateway_sessions_swept_total", "Sessions dropped by age or number.")
