"""Names of training. Add yours here: see the package's docstring and the neighbouring sections."""

from __future__ import annotations

from typing import Final

from anabranch_observability.names.kinds import Attribute, CounterName, HistogramName, LogEvent, SpanName

__all__ = ["FEEDBACK", "LOST_PROCESSES", "RUNS", "RUN_SECONDS", "TRACKED", "Attr", "Log", "Span"]


class Log(LogEvent):
    """Log events."""

    RUN_MOVED = "run.moved"
    RUN_PROCESS_LOST = "run.process_lost"
    RUN_TRACKED = "run.tracked"
    RUN_NOT_TRACKED = "run.not_tracked"
    WORK_POSTPONED = "work.postponed"
    POLICY_CHANGED = "policy.changed"
    POLICY_REFUSED = "policy.refused"


class Span(SpanName):
    """Span names."""


class Attr(Attribute):
    """Span attributes."""


FEEDBACK: Final = CounterName("anabranch_training_feedback_total", "Feedback taken, by what it teaches.", ("outcome",))
LOST_PROCESSES: Final = CounterName("anabranch_training_lost_processes_total", "Processes that ended without a result.")
TRACKED: Final = CounterName("anabranch_training_tracked_total", "Runs told to the tracking server.", ("outcome",))
RUNS: Final = CounterName("anabranch_training_runs_total", "Runs that reached a state.", ("trigger", "state"))
RUN_SECONDS: Final = HistogramName("anabranch_training_run_seconds", "From queued to done.")
