"""The closed list keeps its own rules, and what is not on it cannot be used."""

import pytest

from anabranch_observability import UnknownName, counter, exposition, gauge, histogram, names
from anabranch_observability.names import CounterName, GaugeName, HistogramName, LogEvent, MetricName, SpanName
from anabranch_observability.names import rpc as rpc_names
from anabranch_observability.names.kinds import Attribute, faults_of


def test_the_list_as_it_is_has_no_fault() -> None:
    assert names.faults() == []
    assert len(names.declared()) > 20


@pytest.mark.parametrize(
    ("metric", "fault"),
    [
        (CounterName("anabranch_things", "x"), "ends in _total"),
        (HistogramName("anabranch_thing_time", "x"), "ends in its unit"),
        (GaugeName("things", "x"), "is not anabranch_"),
        (GaugeName("anabranch_things", ""), "no help text"),
        (GaugeName("anabranch_things", "x", ("tenant",)), "no bounded set of values"),
        (GaugeName("anabranch_things", "x", ("Kind",)), "not snake_case"),
    ],
)
def test_a_metric_that_breaks_a_rule_is_a_fault(metric: MetricName, fault: str) -> None:
    (found,) = faults_of([metric])
    assert fault in found


def test_a_log_event_is_a_noun_and_what_happened_to_it() -> None:
    class Log(LogEvent):
        GOOD = "document.chunked"
        BAD = "Chunked document"

    assert faults_of(Log) == ["log event 'Chunked document': is not noun.verbed"]


def test_spans_and_attributes_are_lower_case() -> None:
    class Span(SpanName):
        BAD = "Parse Document"

    class Attr(Attribute):
        BAD = "format"

    assert len(faults_of([*Span, *Attr])) == 2


def test_one_name_in_two_sections_is_a_fault() -> None:
    class One(LogEvent):
        X = "document.chunked"

    class Two(LogEvent):
        X = "document.chunked"

    (fault,) = faults_of([*One, *Two])
    assert "declared twice" in fault


def test_a_metric_that_is_not_declared_cannot_be_made() -> None:
    with pytest.raises(UnknownName, match="declare it in your section"):
        counter(CounterName("anabranch_secret_things_total", "x"))


def test_a_metric_is_what_it_was_declared_as() -> None:
    counter(rpc_names.REQUESTS)
    with pytest.raises(UnknownName, match="CounterName"):
        gauge(rpc_names.REQUESTS)  # type: ignore[arg-type]  # the type checker refuses it, too


def test_labels_are_those_declared() -> None:
    with pytest.raises(ValueError, match="label"):
        counter(rpc_names.REQUESTS).labels(method="x", tenant="y")


def test_a_metric_is_the_same_object_every_time_and_shows_in_the_exposition() -> None:
    assert histogram(rpc_names.REQUEST_SECONDS) is histogram(rpc_names.REQUEST_SECONDS)
    histogram(rpc_names.REQUEST_SECONDS).labels(method="shown").observe(0.1)
    assert b'anabranch_rpc_request_seconds_count{method="shown"} 1.0' in exposition()


def test_label_combinations_past_the_bound_become_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from anabranch_observability import metrics  # noqa: PLC0415  only here

    small = GaugeName("anabranch_test_bound", "x", ("kind",), max_series=2)
    monkeypatch.setattr(metrics, "declared_metrics", lambda: frozenset({small}))
    bounded = gauge(small)
    for kind in ("a", "b", "c", "d", "a"):
        bounded.labels(kind=kind).inc()
    text = exposition().decode()
    shown = {line for line in text.splitlines() if line.startswith("anabranch_test_bound{")}
    assert shown == {
        'anabranch_test_bound{kind="a"} 2.0',
        'anabranch_test_bound{kind="b"} 1.0',
        'anabranch_test_bound{kind="other"} 2.0',
    }
