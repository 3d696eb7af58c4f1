"""Names of guardrails."""

from __future__ import annotations

from typing import Final

from anabranch_observability.names.kinds import Attribute, CounterName, GaugeName, HistogramName, LogEvent, SpanName

__all__ = [
    "BLOCKED_LOST",
    "BLOCKED_WAITING",
    "CHECKS",
    "CHECK_FAILURES",
    "CHECK_SECONDS",
    "DECISIONS",
    "DECISION_SECONDS",
    "HELD_SECONDS",
    "PASSAGES_REMEMBERED",
    "POLICIES",
    "POLICIES_REFUSED",
    "WORKERS_ABANDONED",
    "Attr",
    "Log",
    "Span",
]


class Log(LogEvent):
    """Log events."""

    CHECK_FAILED = "guardrails.check.failed"
    WORKER_ABANDONED = "guardrails.worker.abandoned"
    POLICY_CHANGED = "guardrails.policy.changed"
    POLICY_DROPPED = "guardrails.policy.dropped"
    POLICY_REFUSED = "guardrails.policy.refused"
    ATTACHMENT_CHANGED = "guardrails.attachment.changed"
    ATTACHMENT_WAITING = "guardrails.attachment.delayed"
    RECORDS_DELAYED = "guardrails.records.delayed"
    RECORDS_LOST = "guardrails.records.lost"


class Span(SpanName):
    """Span names."""


class Attr(Attribute):
    """Span attributes."""


CHECKS: Final = CounterName(
    "anabranch_guardrails_checks_total",
    "Checks run or skipped.",
    ("check", "stage", "status", "verdict", "shadow"),
    2_000,
)
CHECK_SECONDS: Final = HistogramName("anabranch_guardrails_check_seconds", "How long a check took.", ("check", "stage"))
CHECK_FAILURES: Final = CounterName(
    "anabranch_guardrails_check_failures_total",
    "Checks that failed or took too long, by what was done: open let the text through.",
    ("check", "stage", "status", "mode"),
)
DECISIONS: Final = CounterName("anabranch_guardrails_decisions_total", "Texts decided over.", ("stage", "verdict"))
DECISION_SECONDS: Final = HistogramName(
    "anabranch_guardrails_decision_seconds", "How long a text took: a stream from its first message.", ("stage",)
)
HELD_SECONDS: Final = HistogramName(
    "anabranch_guardrails_held_seconds", "How long pieces of streamed answers were held back.", ()
)
PASSAGES_REMEMBERED: Final = CounterName(
    "anabranch_guardrails_passages_remembered_total", "Looks at passages found among those kept, or not.", ("outcome",)
)
POLICIES: Final = GaugeName("anabranch_guardrails_policies", "Policies known, the built-in one among them.")
POLICIES_REFUSED: Final = CounterName(
    "anabranch_guardrails_policies_refused_total", "Policies that this build cannot take."
)
WORKERS_ABANDONED: Final = CounterName(
    "anabranch_guardrails_workers_abandoned_total", "Workers given up because a check does not come back.", ("check",)
)
BLOCKED_WAITING: Final = GaugeName(
    "anabranch_guardrails_blocked_waiting", "Records of blocked texts not yet published."
)
BLOCKED_LOST: Final = CounterName(
    "anabranch_guardrails_blocked_lost_total", "Records of blocked texts that were given up.", ("reason",)
)
