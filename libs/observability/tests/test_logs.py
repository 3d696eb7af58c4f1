"""One line an event, with the trace it belongs to and without secrets."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch_observability import bind, configure, get_logger, new_trace, parse_traceparent, span, traceparent
from anabranch_observability.names.rpc import Log
from anabranch_observability.redaction import REDACTED, is_secret, redacted

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    configure(service="thing", level="info", format="json")
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_says_when_where_and_what(lines: Lines) -> None:
    get_logger().info(Log.REQUEST_FINISHED, method="x", ms=1.5)
    (line,) = lines()
    assert list(line)[:4] == ["timestamp", "level", "service", "event"]
    assert (line["service"], line["event"], line["ms"]) == ("thing", "rpc.request.finished", 1.5)


def test_every_line_inside_a_span_has_its_trace(lines: Lines) -> None:
    with span("some work"):
        header = str(traceparent())
        get_logger().info(Log.REQUEST_FINISHED)
        logging.getLogger("some.library").warning("hello")
    assert [(line["trace_id"], line["span_id"]) for line in lines()] == [(header[3:35], header[36:52])] * 2


def test_a_span_continues_the_trace_it_is_given() -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with span("some work", parent=parent):
        assert traceparent() == parent
    assert traceparent() is None


@given(st.text(max_size=60))
def test_a_header_that_is_malformed_begins_a_new_trace(header: str) -> None:
    parsed = parse_traceparent(header)
    assert parsed is None or parsed.is_valid


def test_a_header_survives_the_way_there_and_back() -> None:
    made = new_trace()
    header = f"00-{made.trace_id:032x}-{made.span_id:016x}-00"
    parsed = parse_traceparent(header)
    assert parsed is not None
    assert (parsed.trace_id, parsed.span_id) == (made.trace_id, made.span_id)


async def test_bound_fields_are_in_the_lines_of_a_task_and_of_no_other(lines: Lines) -> None:
    async def work(number: int) -> None:
        bind(number=number)
        await asyncio.sleep(0)
        get_logger().info(Log.REQUEST_FINISHED)

    await asyncio.gather(asyncio.create_task(work(1)), asyncio.create_task(work(2)))
    get_logger().info(Log.REQUEST_FINISHED)
    assert [line.get("number") for line in lines()] == [1, 2, None]


def test_an_event_that_is_not_declared_is_kept_under_a_name_that_says_so(lines: Lines) -> None:
    get_logger().info("hello world")  # type: ignore[arg-type]  # the type checker refuses it, too
    (line,) = lines()
    assert (line["event"], line["text"]) == ("undeclared.logged", "hello world")


def test_lines_of_libraries_look_like_ours(lines: Lines) -> None:
    logging.getLogger("some.library").warning("connecting to %s", "postgresql://me:swordfish@host/db")
    (line,) = lines()
    assert (line["event"], line["library"], line["level"]) == ("library.logged", "some.library", "warning")
    assert line["text"] == f"connecting to postgresql://me:{REDACTED}@host/db"


def test_an_exception_is_one_line_and_holds_no_secret(lines: Lines) -> None:
    try:
        int("authorization: Bearer swordfish-123456")
    except ValueError:
        get_logger().exception(Log.REQUEST_FAILED)
    (line,) = lines()
    assert "ValueError" in line["exception"]
    assert "swordfish" not in json.dumps(line)


@pytest.mark.parametrize(
    "values",
    [
        {"authorization": "Bearer swordfish"},
        {"key": "swordfish"},
        {"api_key": "swordfish"},
        {"password": b"swordfish"},
        {"refresh_token": "swordfish"},
        {"headers": {"Authorization": "swordfish", "x-api-key": "swordfish"}},
        {"metadata": [{"cookie": "swordfish"}]},
        {"problem": "the header was 'Bearer swordfish'"},
        {"problem": "url https://user:swordfish@host/path"},
        {"problem": "password=swordfish&x=1"},
        {"problem": "api-key: swordfish"},
    ],
)
def test_a_secret_is_in_no_line(lines: Lines, capsys: pytest.CaptureFixture[str], values: dict[str, Any]) -> None:
    get_logger().info(Log.REQUEST_FINISHED, **values)
    (line,) = lines()
    assert "swordfish" not in json.dumps(line)


@pytest.mark.parametrize("name", ["record_key", "tokens", "prompt_tokens", "key_file", "keyword", "monkey", "top_k"])
def test_what_only_sounds_like_a_secret_is_shown(name: str) -> None:
    assert not is_secret(name)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.binary(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
        max_leaves=10,
    )
)
def test_any_value_can_be_logged(value: Any) -> None:
    json.dumps(redacted(value))


def test_a_huge_value_is_cut() -> None:
    assert len(redacted("x" * 1_000_000)) < 9_000


def test_pretty_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure(service="thing", level="info", format="pretty")
    get_logger().info(Log.REQUEST_FINISHED, api_key="swordfish")
    shown = capsys.readouterr().err
    assert "rpc.request.finished" in shown
    assert not shown.startswith("{")
    assert "swordfish" not in shown
