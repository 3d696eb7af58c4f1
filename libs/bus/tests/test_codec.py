"""Bytes to records and back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch import topics
from anabranch.ingestion.v1.events_pb2 import DocumentStatusChanged
from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_bus import Event, Raw, Record, Unreadable
from anabranch_bus.codec import read
from anabranch_bus.dead_letters import Cause, Death, bury, exhume

SOURCE = topics.UPSTREAM_DOCUMENT_CHANGED
MESSAGE = DocumentChanged(tenant="t", corpus="c", document_id="d", text="é", version=7)


def raw(value: bytes | None, *headers: tuple[str, bytes], key: bytes | None = b"t/c/d") -> Raw:
    return Raw(
        topic=SOURCE.name,
        partition=2,
        offset=9,
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        key=key,
        value=value,
        headers=headers,
    )


def problem(one: Raw) -> str:
    found = read(SOURCE, one)
    assert isinstance(found, Unreadable)
    return found.problem


def record(one: Raw) -> Record[DocumentChanged]:
    found = read(SOURCE, one)
    assert isinstance(found, Record)
    return found


def test_an_event_comes_back_as_the_record_it_was_sent_as() -> None:
    event = Event(topic=SOURCE, message=MESSAGE, key="t/c/d", caused_by="cause", headers={"x": "y"})
    encoded = event.encode()
    got = record(raw(encoded.value, *encoded.headers, key=encoded.key))
    assert (got.message, got.key, got.event_id, got.time) == (MESSAGE, "t/c/d", event.event_id, event.time)
    assert got.headers["ce_causedby"] == "cause"
    assert got.headers["ce_type"] == "anabranch.upstream.v1.DocumentChanged"
    assert got.headers["content-type"] == "application/protobuf"
    assert got.headers["x"] == "y"


@pytest.mark.parametrize("content_type", [b"application/json", b"application/json; charset=utf-8", b"", None])
def test_a_json_body_is_read_with_its_content_type_or_without_any(content_type: bytes | None) -> None:
    headers = [] if content_type is None else [("content-type", content_type)]
    body = '{"tenant":"t","corpus":"c","documentId":"d","text":"é","version":"7"}'.encode()
    assert record(raw(body, *headers)).message == MESSAGE


def test_a_record_without_an_id_has_the_same_id_at_every_delivery_and_another_elsewhere() -> None:
    one = raw(MESSAGE.SerializeToString())
    assert record(one).event_id == record(one).event_id
    assert record(one).event_id != record(replace(one, offset=10)).event_id


def test_a_record_without_a_time_has_the_broker_s() -> None:
    assert record(raw(b"", ("ce_time", b"yesterday"))).time == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (raw(None), "there is no body"),
        (raw(b"\xff\xff"), "is not anabranch.upstream.v1.DocumentChanged as protobuf"),
        (raw(b"{", ("content-type", b"application/json")), "as protobuf-JSON"),
        (raw(b'{"tenent":"t"}'), "tenent"),
        (raw(b'{"text":"\xff"}'), "not UTF-8 at byte 9"),
        (raw(b"[" * 100_000, ("content-type", b"application/json")), "recursion depth exceeded"),
        (raw(b"", ("content-type", b"text/xml")), "'text/xml' is neither"),
        (raw(b"", key=b"\xff"), "the key is not UTF-8 at byte 0"),
        (raw(DocumentStatusChanged(caused_by="\U0001f600").SerializeToString()[:-1]), "as protobuf"),
    ],
)
def test_what_cannot_be_read_says_why(one: Raw, says: str) -> None:
    assert says in problem(one)


@given(value=st.none() | st.binary(max_size=50), key=st.none() | st.binary(max_size=10), ctype=st.binary(max_size=20))
def test_no_bytes_make_reading_fail(value: bytes | None, key: bytes | None, ctype: bytes) -> None:
    assert isinstance(read(SOURCE, raw(value, ("content-type", ctype), key=key)), Record | Unreadable)


@given(
    value=st.binary(max_size=50),
    key=st.none() | st.binary(max_size=10),
    headers=st.lists(st.tuples(st.text(max_size=10), st.binary(max_size=10)), max_size=4),
)
def test_a_dead_letter_keeps_the_bytes_and_the_headers_and_says_where_from(
    value: bytes, key: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    origin = raw(value, *headers, key=key)
    now = datetime.now(UTC)
    death = Death(
        cause=Cause.INVALID,
        error="E",
        reason="because",
        reason_code="WHY",
        attempts=3,
        first_seen=now,
        group="g",
        code_version="1.2",
    )
    buried = replace(origin, topic="dlq", partition=0, offset=1, headers=bury(origin, death, died_at=now))
    letter = exhume(buried)
    assert (letter.value, letter.raw_key) == (value, key)
    assert letter.raw_headers == tuple(h for h in headers if not h[0].startswith("dlq_"))
    assert (letter.topic, letter.partition, letter.offset, letter.time) == (SOURCE.name, 2, 9, origin.timestamp)
    assert (letter.cause, letter.error, letter.reason, letter.reason_code) == (Cause.INVALID, "E", "because", "WHY")
    assert (letter.attempts, letter.first_seen, letter.died_at, letter.group) == (3, now, now, "g")
    read_id = read(SOURCE, origin).event_id
    assert letter.event_id == read_id
    again = exhume(replace(buried, headers=bury(buried, death, died_at=now)))
    assert again.raw_headers == letter.raw_headers


def test_an_event_with_a_message_of_another_topic_is_refused_at_birth() -> None:
    with pytest.raises(TypeError, match=r"carries anabranch\.upstream\.v1\.DocumentChanged"):
        Event(topic=SOURCE, message=DocumentStatusChanged(), key="k")  # type: ignore[misc]  # the point
