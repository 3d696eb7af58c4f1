"""Names of gateway. Add yours here: see the package's docstring and the neighbouring sections."""

from __future__ import annotations

from typing import Final

from anabranch_observability.names.kinds import Attribute, CounterName, GaugeName, HistogramName, LogEvent, SpanName

__all__ = [
    "ANSWERS",
    "ANSWERS_UNRECORDED",
    "ANSWERS_WAITING",
    "ANSWER_SECONDS",
    "BUDGETS_CROSSED",
    "CACHE_CHECKS",
    "CACHE_ENTRIES",
    "CACHE_FORGOTTEN",
    "CACHE_LOOKUPS",
    "CACHE_LOOKUP_SECONDS",
    "CALLS_REFUSED",
    "CALLS_UNSETTLED",
    "CROSSINGS_LOST",
    "GUARDS_FAILED",
    "GUARD_VERDICTS",
    "HTTP_REQUESTS",
    "HTTP_REQUEST_SECONDS",
    "MODEL_CALLS",
    "QUOTAS",
    "QUOTAS_UNCHECKED",
    "RESERVATIONS_LOST",
    "ROUTES",
    "SESSIONS_SWEPT",
    "SETTLEMENTS_LOST",
    "UNPRICED_MODELS",
    "USAGES_LOST",
    "USAGES_WAITING",
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
    BUDGET_CROSSED = "gateway.budget.crossed"
    CROSSINGS_DELAYED = "gateway.crossings.delayed"
    QUOTA_CHANGED = "gateway.quota.changed"
    QUOTA_DROPPED = "gateway.quota.dropped"
    QUOTA_REFUSED = "gateway.quota.refused"
    QUOTAS_UNCHECKED = "gateway.quotas.unchecked"
    SESSIONS_SWEPT = "gateway.sessions.swept"
    SWEEP_FAILED = "gateway.sweep.failed"
    GUARDS_FAILED = "gateway.guards.failed"
    HTTP_STARTED = "gateway.http.started"
    HTTP_FAILED = "gateway.http.failed"
    HTTP_REFUSED = "gateway.http.refused"
    PRICE_CHANGED = "gateway.price.changed"
    PRICE_DROPPED = "gateway.price.dropped"
    PRICE_REFUSED = "gateway.price.refused"
    PRICE_UNKNOWN = "gateway.price.missed"
    USAGES_DELAYED = "gateway.usages.delayed"
    USAGES_LOST = "gateway.usages.lost"
    CACHE_CLEARED = "gateway.cache.cleared"
    CACHE_TIGHTENED = "gateway.cache.tightened"


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
GUARDS_FAILED: Final = CounterName(
    "anabranch_gateway_guards_failed_total", "Checks that could not be made, and what followed.", ("stage", "then")
)
GUARD_VERDICTS: Final = CounterName(
    "anabranch_gateway_guard_verdicts_total", "Verdicts of guardrails.", ("stage", "verdict")
)
HTTP_REQUESTS: Final = CounterName(
    "anabranch_gateway_http_requests_total", "HTTP requests answered.", ("route", "status")
)
HTTP_REQUEST_SECONDS: Final = HistogramName(
    "anabranch_gateway_http_request_seconds", "Time to answer an HTTP request.", ("route",)
)
ROUTES: Final = GaugeName("anabranch_gateway_routes", "Scopes that have a route.")
SESSIONS_SWEPT: Final = CounterName("anabranch_gateway_sessions_swept_total", "Sessions dropped by age or number.")
MODEL_CALLS: Final = CounterName(
    "anabranch_gateway_model_calls_total", "Calls of models metered.", ("purpose", "price")
)
UNPRICED_MODELS: Final = CounterName(
    "anabranch_gateway_unpriced_models_total", "Models met whose price is not known.", ("backend",)
)
USAGES_LOST: Final = CounterName(
    "anabranch_gateway_usages_lost_total", "Metered calls whose record was lost.", ("reason",)
)
USAGES_WAITING: Final = GaugeName("anabranch_gateway_usages_waiting", "Metered calls not yet published.")
CACHE_LOOKUPS: Final = CounterName(
    "anabranch_gateway_cache_lookups_total", "Questions looked up in the answer cache.", ("outcome",)
)
CACHE_LOOKUP_SECONDS: Final = HistogramName(
    "anabranch_gateway_cache_lookup_seconds", "Time to look a question up in the answer cache."
)
CACHE_CHECKS: Final = CounterName(
    "anabranch_gateway_cache_checks_total", "Cached answers compared with fresh ones.", ("kind", "outcome")
)
CACHE_FORGOTTEN: Final = CounterName(
    "anabranch_gateway_cache_forgotten_total", "Answers dropped from the answer cache.", ("reason",)
)
CACHE_ENTRIES: Final = GaugeName("anabranch_gateway_cache_entries", "Answers in the answer cache.")
BUDGETS_CROSSED: Final = CounterName(
    "anabranch_gateway_budgets_crossed_total", "Bounds of budgets reached, once a window.", ("bound",)
)
CROSSINGS_LOST: Final = CounterName(
    "anabranch_gateway_crossings_lost_total", "Bounds reached whose event was not published."
)
CALLS_REFUSED: Final = CounterName(
    "anabranch_gateway_calls_refused_total", "Calls that a quota had no room for.", ("reason",)
)
CALLS_UNSETTLED: Final = GaugeName(
    "anabranch_gateway_calls_unsettled", "Calls whose cost waits for the store of quotas."
)
QUOTAS: Final = GaugeName("anabranch_gateway_quotas", "Subjects that have a quota.")
QUOTAS_UNCHECKED: Final = CounterName(
    "anabranch_gateway_quotas_unchecked_total",
    "Operations on the store of quotas that failed, and whether the call went on.",
    ("operation", "outcome"),
)
RESERVATIONS_LOST: Final = CounterName(
    "anabranch_gateway_reservations_lost_total", "Reservations never settled, counted as spent."
)
SETTLEMENTS_LOST: Final = CounterName(
    "anabranch_gateway_settlements_lost_total", "Settlements given up, their reservations counted as spent."
)
