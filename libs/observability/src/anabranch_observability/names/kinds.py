"""What a name in the closed list can be: a log event, a span, an attribute or a metric with its labels."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["Attribute", "CounterName", "GaugeName", "HistogramName", "LogEvent", "MetricName", "SpanName", "faults_of"]

LATENCY_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds from one millisecond to half a minute; what a histogram gets when its name says nothing else."""


class LogEvent(StrEnum):
    """Base of the log events of one section: `noun.verbed`."""


class SpanName(StrEnum):
    """Base of the span names of one section: `noun verb`, low cardinality."""


class Attribute(StrEnum):
    """Base of the span attributes of one section: dotted lower case."""


@dataclass(frozen=True, slots=True)
class MetricName:
    """One metric. `labels` is the whole label set; past `max_series` combinations new ones become "other"."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    max_series: int = 500


@dataclass(frozen=True, slots=True)
class CounterName(MetricName):
    """Something that only grows; the name ends in `_total`."""


@dataclass(frozen=True, slots=True)
class GaugeName(MetricName):
    """A value that goes up and down."""


@dataclass(frozen=True, slots=True)
class HistogramName(MetricName):
    """A distribution; the name ends in its unit (`_seconds`, `_bytes`, ...)."""

    buckets: tuple[float, ...] = LATENCY_SECONDS


_LOG = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*\.[a-z][a-z0-9_]*")
_SPAN = re.compile(r"[a-z][a-z0-9_.]*( [a-z][a-z0-9_.]*)*")
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_METRIC = re.compile(r"anabranch_[a-z][a-z0-9_]*[a-z0-9]")
_LABEL = re.compile(r"[a-z][a-z0-9_]*")
_UNITS = ("_seconds", "_bytes", "_ratio", "_records", "_tokens", "_texts", "_chunks", "_documents", "_passages")
# A label with one value per person, document or request makes a time series of each.
_UNBOUNDED = frozenset({"tenant", "document_id", "chunk_id", "answer_id", "trace_id", "question", "event_id", "key"})


def faults_of(names: Iterable[LogEvent | SpanName | Attribute | MetricName]) -> list[str]:
    """What is wrong with these names, a sentence each; empty when all is well."""
    faults: list[str] = []
    seen: dict[tuple[str, str], str] = {}
    for name in names:
        kind, text, problems = _examined(name)
        faults += [f"{kind} {text!r}: {problem}" for problem in problems]
        here = f"{type(name).__module__}.{type(name).__qualname__}"
        if (kind, text) in seen and kind != "attribute":
            faults.append(f"{kind} {text!r} is declared twice, in {seen[kind, text]} and {here}")
        seen[kind, text] = here
    return faults


def _examined(name: LogEvent | SpanName | Attribute | MetricName) -> tuple[str, str, list[str]]:
    if isinstance(name, MetricName):
        return "metric", name.name, _metric_faults(name)
    if isinstance(name, LogEvent):
        return "log event", name.value, [] if _LOG.fullmatch(name) else ["is not noun.verbed"]
    if isinstance(name, SpanName):
        return "span", name.value, [] if _SPAN.fullmatch(name) else ["is not lower-case words"]
    return "attribute", name.value, [] if _ATTRIBUTE.fullmatch(name) else ["is not dotted lower case"]


def _metric_faults(metric: MetricName) -> list[str]:
    faults = []
    if not _METRIC.fullmatch(metric.name):
        faults.append("is not anabranch_ and snake_case")
    if isinstance(metric, CounterName) and not metric.name.endswith("_total"):
        faults.append("a counter ends in _total")
    if isinstance(metric, HistogramName) and not metric.name.endswith(_UNITS):
        faults.append(f"a histogram ends in its unit, one of {', '.join(_UNITS)}")
    if not metric.help:
        faults.append("has no help text")
    for label in metric.labels:
        if not _LABEL.fullmatch(label):
            faults.append(f"label {label!r} is not snake_case")
        if label in _UNBOUNDED:
            faults.append(f"label {label!r} has no bounded set of values: put it into logs or span attributes")
    return faults
