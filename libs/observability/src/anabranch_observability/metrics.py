"""Prometheus metrics, made from declared names only.

The objects returned are prometheus-client's own (`.labels(...)`, `.inc()`, `.observe()`, `.set()`), one for a name in
a process, with a bound on the number of label combinations: past it, every label of a new combination reads "other".
"""

from __future__ import annotations

from threading import Lock
from typing import Any, TypeVar

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from anabranch_observability.names import CounterName, GaugeName, HistogramName, MetricName, declared_metrics

__all__ = ["BoundedCounter", "BoundedGauge", "BoundedHistogram", "UnknownName", "counter", "exposition", "gauge"]
__all__ += ["histogram", "registry"]

# A series of creation times for every counter doubles what a scrape carries.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client left it untyped

OTHER = "other"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class UnknownName(TypeError):  # noqa: N818  reads as what went wrong
    """A metric was asked for whose name is not in the closed list."""


class _Bounded:
    """Mixed into prometheus-client's metrics: caps how many label combinations they keep."""

    _max_series: int = 500
    _seen: set[tuple[str, ...]]

    def labels(self, *values: Any, **named: Any) -> Any:
        """The child for these labels, or the one called "other" when there are too many.

        Raises ValueError when the labels are not those declared.
        """
        parent: Any = super()
        names: tuple[str, ...] = self._labelnames  # type: ignore[attr-defined]  # set by prometheus-client
        key = tuple(str(named.get(name, "")) for name in names) if named else tuple(str(value) for value in values)
        if key not in self._seen:
            if len(self._seen) >= self._max_series:
                return parent.labels(*([OTHER] * len(names)))
            child = parent.labels(*values, **named)
            self._seen.add(key)
            return child
        return parent.labels(*values, **named)


class BoundedCounter(_Bounded, Counter):
    """A counter with a bounded set of label combinations."""


class BoundedGauge(_Bounded, Gauge):
    """A gauge with a bounded set of label combinations."""


class BoundedHistogram(_Bounded, Histogram):
    """A histogram with a bounded set of label combinations."""


_M = TypeVar("_M", BoundedCounter, BoundedGauge, BoundedHistogram)
_made: dict[MetricName, BoundedCounter | BoundedGauge | BoundedHistogram] = {}
_making = Lock()


def counter(name: CounterName) -> BoundedCounter:
    """The counter of this name; the same object every time. Raises UnknownName."""
    return _get(name, BoundedCounter)


def gauge(name: GaugeName) -> BoundedGauge:
    """The gauge of this name; the same object every time. Raises UnknownName."""
    return _get(name, BoundedGauge)


def histogram(name: HistogramName) -> BoundedHistogram:
    """The histogram of this name; the same object every time. Raises UnknownName."""
    return _get(name, BoundedHistogram)


def registry() -> CollectorRegistry:
    """Where the metrics of this process are."""
    return REGISTRY


def exposition() -> bytes:
    """All metrics in Prometheus's text format (`CONTENT_TYPE`)."""
    return generate_latest(REGISTRY)


def _get(name: MetricName, kind: type[_M]) -> _M:
    found = _made.get(name)
    if found is None:
        with _making:
            found = _made.get(name)
            if found is None:
                found = _made[name] = _make(name, kind)
    if not isinstance(found, kind):
        raise UnknownName(f"{name.name} is declared as {type(name).__name__}")
    return found


def _make(name: MetricName, kind: type[_M]) -> _M:
    if name not in declared_metrics():
        raise UnknownName(f"{name.name} is not in anabranch_observability.names: declare it in your section")
    more: dict[str, Any] = {"buckets": name.buckets} if isinstance(name, HistogramName) else {}
    made: Any = kind(name.name, name.help, labelnames=name.labels, registry=REGISTRY, **more)
    made._max_series = name.max_series  # noqa: SLF001  children are made by this class with fixed arguments
    made._seen = set()  # noqa: SLF001  see above
    return made  # type: ignore[no-any-return]  # Any because of the two lines above
