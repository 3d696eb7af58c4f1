"""The closed list of names: metrics, log events, spans and their attributes.

One module a lib or service; each declares `Log(LogEvent)`, `Span(SpanName)`, `Attr(Attribute)` enums and metric
constants, so that a name which is not declared is a type error. `configure()` checks the whole list at start.

    from anabranch_observability.names import ingestion as names

    log.info(names.Log.DOCUMENT_CHUNKED, chunks=12)
    counter(names.DOCUMENTS).labels(outcome="accepted").inc()

To add a name, add a member or a constant to your section's module; to add a section, add a module here.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache
from types import ModuleType

from anabranch_observability.names.kinds import (
    Attribute,
    CounterName,
    GaugeName,
    HistogramName,
    LogEvent,
    MetricName,
    SpanName,
    faults_of,
)

__all__ = [
    "Attribute",
    "CounterName",
    "GaugeName",
    "HistogramName",
    "LogEvent",
    "MetricName",
    "SpanName",
    "declared",
    "declared_metrics",
    "faults",
]

_ENUMS = (LogEvent, SpanName, Attribute)


@cache
def declared() -> tuple[LogEvent | SpanName | Attribute | MetricName, ...]:
    """Every name of every section. Imports the sections, which hold constants only."""
    found: list[LogEvent | SpanName | Attribute | MetricName] = []
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        if module.name != f"{__name__}.kinds":
            found += _names_in(importlib.import_module(module.name))
    return tuple(found)


@cache
def declared_metrics() -> frozenset[MetricName]:
    """The metrics among the declared names."""
    return frozenset(name for name in declared() if isinstance(name, MetricName))


def faults() -> list[str]:
    """What is wrong with the list, a sentence each; empty when all is well."""
    return faults_of(declared())


def _names_in(module: ModuleType) -> list[LogEvent | SpanName | Attribute | MetricName]:
    found: list[LogEvent | SpanName | Attribute | MetricName] = []
    for value in vars(module).values():
        if isinstance(value, MetricName):
            found.append(value)
        elif inspect.isclass(value) and issubclass(value, _ENUMS) and value not in _ENUMS:
            found += list(value)
    return found
