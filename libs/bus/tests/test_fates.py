"""Fates, on the bus in memory and on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from anabranch.ingestion.v1.events_pb2 import DocumentStatusChanged
from anabranch.registry.v1.events_pb2 import RoutingChanged
from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_bus import Batch, Cause, DeadLetter, Encoded, Event, Outcome, Unreadable, derived_id
from anabranch_bus.testing import GROUP, Stage
from anabranch_faults import Invalid, Overloaded, Transient, Unreachable
from anabranch_testkit import poll_until


def event(stage: Stage, text: str, *, key: str = "t/c/d") -> Event[DocumentChanged]:
    message = DocumentChanged(tenant="t", corpus="c", document_id="d", text=text)
    return Event(topic=stage.names.source, message=message, key=key)


def raw_bytes(stage: Stage, value: bytes, *headers: tuple[str, bytes]) -> Encoded:
    return Encoded(topic=stage.names.source.name, key=b"t/c/d", value=value, headers=headers)


class Texts:
    """A handler that publishes what it read, and does as told by `trouble`, which sees each text."""

    def __init__(self, stage: Stage, **options: Any) -> None:
        self.batches: list[list[str]] = []
        self.stage = stage
        self.trouble: dict[str, list[Exception]] = {}
        self.marks: dict[str, list[Invalid | Transient]] = {}
        stage.bus.subscriber(stage.names.source, group=GROUP, **options)(self)

    async def __call__(self, batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        self.batches.append([record.message.text for record in batch])
        outcome = batch.outcome()
        for record in batch:
            text = record.message.text
            if self.trouble.get(text):
                raise self.trouble[text].pop(0)
            if self.marks.get(text):
                fault = self.marks[text].pop(0)
                if isinstance(fault, Invalid):
                    outcome.invalid(record, fault)
                else:
                    outcome.retry(record, fault)
            outcome.publish(
                self.stage.names.target, DocumentStatusChanged(caused_by=text), key=record.key, caused_by=record
            )
        return outcome

    async def published(self) -> list[str]:
        return [record.message.caused_by for record in await self.stage.published()]


async def test_what_a_handler_publishes_is_there_in_order_and_its_records_are_committed(stage: Stage) -> None:
    texts = Texts(stage)
    events = [event(stage, str(n)) for n in range(10)]
    await stage.run(events)
    assert await texts.published() == [str(n) for n in range(10)]
    assert await stage.committed() == 10
    assert await stage.dead() == []
    first = (await stage.published())[0]
    assert first.event_id == derived_id(events[0].event_id, stage.names.target.name)
    assert first.headers["ce_causedby"] == events[0].event_id


async def test_a_poison_record_among_good_ones_dies_alone(stage: Stage) -> None:
    texts = Texts(stage)
    texts.trouble["bad"] = [Invalid("no such tenant", field="tenant", reason="UNKNOWN_TENANT")] * 20
    poison = event(stage, "bad")
    await stage.run([event(stage, "a"), event(stage, "b"), poison, event(stage, "c")])
    assert await texts.published() == ["a", "b", "c"]
    assert await stage.committed() == 4
    (letter,) = await stage.dead()
    assert (letter.cause, letter.reason, letter.reason_code) == (
        Cause.INVALID,
        "tenant: no such tenant",
        "UNKNOWN_TENANT",
    )
    assert (letter.event_id, letter.key, letter.value) == (
        poison.event_id,
        "t/c/d",
        poison.message.SerializeToString(),
    )
    assert (letter.topic, letter.offset, letter.group) == (stage.names.source.name, 2, GROUP)


async def test_a_record_marked_invalid_dies_and_what_it_published_is_thrown_away(stage: Stage) -> None:
    texts = Texts(stage)
    texts.marks["bad"] = [Invalid("too old")]
    await stage.run([event(stage, "a"), event(stage, "bad"), event(stage, "c")])
    assert await texts.published() == ["a", "c"]
    assert [letter.reason for letter in await stage.dead()] == ["too old"]


async def test_a_bug_is_tried_three_times_and_dies_with_its_class_and_place(stage: Stage) -> None:
    texts = Texts(stage)
    texts.trouble["bug"] = [ZeroDivisionError("oops")] * 20
    await stage.run([event(stage, "a"), event(stage, "bug"), event(stage, "c")])
    assert await texts.published() == ["a", "c"]
    (letter,) = await stage.dead()
    assert (letter.cause, letter.error, letter.attempts) == (Cause.BUG, "ZeroDivisionError", 3)
    assert letter.reason.startswith("oops (__call__, test_fates.py:")
    assert texts.batches.count(["bug"]) == 3


async def test_a_passing_fault_is_waited_out(stage: Stage) -> None:
    texts = Texts(stage)
    texts.trouble["a"] = [Transient("deadlock"), Transient("deadlock")]
    await stage.run([event(stage, "a"), event(stage, "b")])
    assert await texts.published() == ["a", "b"]
    assert await stage.dead() == []


async def test_a_retried_record_keeps_its_place_before_later_ones_of_its_key(stage: Stage) -> None:
    texts = Texts(stage)
    texts.marks["a1"] = [Transient("later"), Transient("later")]
    await stage.run(
        [
            event(stage, "a1", key="a"),
            event(stage, "b1", key="b"),
            event(stage, "a2", key="a"),
            event(stage, "a3", key="a"),
        ]
    )
    published = await texts.published()
    assert [text for text in published if text.startswith("a")] == ["a1", "a2", "a3"]
    assert sorted(published) == ["a1", "a2", "a3", "b1"]


async def test_a_record_that_keeps_failing_dies_after_its_attempts(stage: Stage) -> None:
    texts = Texts(stage)
    texts.marks["bad"] = [Transient("later")] * 20
    await stage.run([event(stage, "bad"), event(stage, "b")])
    assert await texts.published() == ["b"]
    (letter,) = await stage.dead()
    assert (letter.cause, letter.attempts) == (Cause.EXHAUSTED, 5)


@pytest.mark.parametrize("fault", [Overloaded("full"), Unreachable("away")])
async def test_an_outage_pauses_and_charges_no_attempt(stage: Stage, fault: Transient) -> None:
    texts = Texts(stage)
    texts.trouble["a"] = [fault] * 12
    await stage.run([event(stage, "a"), event(stage, "b")])
    assert await texts.published() == ["a", "b"]
    assert await stage.dead() == []
    assert sum("a" in batch for batch in texts.batches) == 13


async def test_bytes_that_are_no_message_are_answered_kept_and_passed(stage: Stage) -> None:
    async def unreadable(found: Unreadable) -> Sequence[Event]:
        status = DocumentStatusChanged(caused_by=f"rejected {found.event_id}")
        return [found.answer(stage.names.target, status, key=found.key)]

    texts = Texts(stage, unreadable=unreadable)
    odd = (("ce_id", b"mine"), ("x", b"\xff\xfe"))
    await stage.run([event(stage, "a"), raw_bytes(stage, b"\xff\xff", *odd), event(stage, "c")])
    assert await texts.published() == ["a", "rejected mine", "c"]
    (letter,) = await stage.dead()
    assert (letter.cause, letter.value, letter.raw_headers) == (Cause.UNREADABLE, b"\xff\xff", odd)
    assert await stage.committed() == 3


async def test_plain_json_without_any_header_is_read_and_has_an_id_that_redelivery_keeps(stage: Stage) -> None:
    texts = Texts(stage)
    await stage.run([raw_bytes(stage, b'{"tenant": "t", "text": "from kcat"}')])
    assert await texts.published() == ["from kcat"]


async def test_a_bug_on_every_record_halts_within_fifty_dead_and_loses_nothing(stage: Stage) -> None:
    texts = Texts(stage)
    texts.trouble = {str(n): [ValueError("bad deploy")] * 100 for n in range(120)}
    await stage.run([event(stage, str(n)) for n in range(120)])
    assert stage.bus.ready is not None
    assert "50 dead letters in a row" in stage.bus.ready
    dead = await stage.dead()
    assert [letter.offset for letter in dead] == list(range(50))
    assert await stage.committed() <= 50
    assert await texts.published() == []


async def test_a_reader_of_dead_letters_gets_them_with_their_provenance(stage: Stage) -> None:
    got: list[DeadLetter] = []

    @stage.bus.dead_letters(stage.names.source, of=GROUP, group="morticians")
    async def on_dead(letters: Sequence[DeadLetter]) -> None:
        got.extend(letters)

    texts = Texts(stage)
    texts.marks["bad"] = [Invalid("too old")]
    await stage.run([event(stage, "bad")])
    await poll_until(lambda: got)
    assert [(letter.reason, letter.group, letter.topic) for letter in got] == [
        ("too old", GROUP, stage.names.source.name)
    ]


async def test_a_table_is_read_from_its_beginning_and_followed(stage: Stage) -> None:
    rows: dict[str, str | None] = {}

    def row(key: str, by: str) -> Event[RoutingChanged]:
        return Event(topic=stage.names.table, message=RoutingChanged(scope=by), key=key)

    before = [row("a", "one"), row("b", "two"), row("a", "three")]
    await stage.bus.publish(*before)

    @stage.bus.table(stage.names.table)
    async def on_row(key: str, value: RoutingChanged | None) -> None:
        if value is not None and value.scope == "broken":
            raise ValueError("this entry cannot be applied")
        rows[key] = value.scope if value else None

    await stage.bus.start()
    await poll_until(lambda: stage.bus.ready is None)
    assert rows == {"a": "three", "b": "two"}
    await stage.bus.publish(row("b", "broken"), row("c", "four"))
    await poll_until(lambda: rows.get("c") == "four")
    assert rows == {"a": "three", "b": "two", "c": "four"}
    garbage = Encoded(topic=stage.names.table.name, key=b"d", value=b"\xff", headers=())
    await stage.bus.publish_encoded([garbage, row("e", "five").encode()])
    await poll_until(lambda: rows.get("e") == "five")
    assert "d" not in rows


async def test_news_are_heard_by_every_reader_without_a_group(stage: Stage) -> None:
    heard: dict[str, list[str]] = {"one": [], "two": []}
    gaps: list[str] = []

    async def gap() -> None:
        gaps.append("gap")

    for name, keys in heard.items():

        async def on_change(key: str, value: DocumentChanged | None, keys: list[str] = keys) -> None:
            assert value is not None
            keys.append(key)
            if key == "broken":
                raise ValueError("this one cannot be taken")

        assert stage.bus.news(stage.names.source, gap=gap)(on_change) is on_change, name
    await stage.bus.start()
    await poll_until(lambda: stage.bus.ready is None)
    await stage.bus.publish(event(stage, "a", key="a"), event(stage, "x", key="broken"), event(stage, "c", key="c"))
    await poll_until(lambda: all("c" in keys and "broken" in keys for keys in heard.values()))
    assert all(sorted(keys) == ["a", "broken", "c"] for keys in heard.values())
    assert gaps == []


async def test_what_a_record_causes_goes_on_in_its_trace(stage: Stage) -> None:
    Texts(stage)
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    message = DocumentChanged(tenant="t", text="a")
    traced = Event(topic=stage.names.source, message=message, key="k", headers=headers)
    await stage.run([traced, event(stage, "b")])
    first, second = await stage.published()
    assert first.headers["traceparent"].split("-")[1] == trace
    assert second.headers.get("traceparent", "--").split("-")[1] != trace


async def test_two_handlers_of_one_topic_in_one_group_are_refused(stage: Stage) -> None:
    Texts(stage)
    with pytest.raises(ValueError, match="already"):
        Texts(stage)
    await asyncio.sleep(0)
