"""Names of evaluation."""

from __future__ import annotations

from typing import Final

from anabranch_observability.names.kinds import Attribute, CounterName, HistogramName, LogEvent, SpanName

__all__ = [
    "DECISIONS",
    "JUDGED",
    "JUDGE_CALLS",
    "JUDGE_PARSE_FAILURES",
    "JUDGE_SECONDS",
    "SCORED_WITHOUT_MEANING",
    "Attr",
    "Log",
    "Span",
]


class Log(LogEvent):
    """Log events."""

    EXPERIMENT_DECIDED = "evaluation.experiment.decided"
    LOOK_DELAYED = "evaluation.look.delayed"
    TENDING_DELAYED = "evaluation.tending.delayed"
    OLD_DROPPED = "evaluation.old.dropped"
    JUDGE_FAILED = "evaluation.judge.failed"
    JUDGING_DELAYED = "evaluation.judging.delayed"
    MEANING_MISSED = "evaluation.meaning.missed"


class Span(SpanName):
    """Span names."""


class Attr(Attribute):
    """Span attributes."""


DECISIONS: Final = CounterName("anabranch_evaluation_decisions_total", "Decisions on experiments.", ("decision",))
JUDGE_CALLS: Final = CounterName(
    "anabranch_evaluation_judge_calls_total",
    "Calls of the judge: replied, unreadable, timeout, unreachable, refused, malformed or oversized.",
    ("rubric", "outcome"),
)
JUDGE_SECONDS: Final = HistogramName("anabranch_evaluation_judge_seconds", "Time of one call of the judge.")
JUDGE_PARSE_FAILURES: Final = CounterName(
    "anabranch_evaluation_judge_parse_failures_total", "Replies of the judge that could not be read, of answers told."
)
JUDGED: Final = CounterName(
    "anabranch_evaluation_judged_total",
    "Answers that waited for the judge: judged, cached, unreadable (no vote could be read) or without (no reply).",
    ("outcome",),
)
SCORED_WITHOUT_MEANING: Final = CounterName(
    "anabranch_evaluation_scored_without_meaning_total",
    "Batches of answers scored by words alone because embedding was away.",
)
