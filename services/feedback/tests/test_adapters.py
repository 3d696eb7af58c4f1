"""Redaction, the store on both databases, and the service on a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from anabranch import topics
from anabranch.feedback.v1.events_pb2 import Cause, RatingGiven
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_bus import Event
from anabranch_faults import Transient
from anabranch_feedback import messages
from anabranch_feedback.adapters.redaction import PatternRedactor
from anabranch_feedback.adapters.store.ledger import SqlLedger
from anabranch_feedback.adapters.store.shelf import SqlShelf
from anabranch_feedback.adapters.telemetry import Telemetry
from anabranch_feedback.application.answering import Joiner, LookAfter, RecordAnswers
from anabranch_feedback.application.erasing import Erased, EraseUser
from anabranch_feedback.application.ports import Channel, Past
from anabranch_feedback.application.reading import AnswerFilter, RatingFilter, Read
from anabranch_feedback.application.sampling import Sampler
from anabranch_feedback.application.taking import Arrival, Rules, State, TakeFeedback
from anabranch_feedback.bootstrap import database_of
from anabranch_feedback.domain.limits import RateLimit
from anabranch_feedback.domain.refusals import Refusal, Refused
from anabranch_feedback.domain.sampling import Shares
from anabranch_feedback.entrypoints.kafka import encoded
from anabranch_feedback.testing import feedback, new_answer_id, served
from anabranch_store import Database
from anabranch_testkit import poll_until


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Write to ada.lovelace+x@mail.example.co.uk now", "Write to [email] now"),
        ("Call +49 30 901820 or (650) 253-0000.", "Call [phone] or [phone]."),
        ("IBAN DE89 3704 0044 0532 0130 00, please", "IBAN [iban], please"),
        ("GB82WEST12345698765432 is mine", "[iban] is mine"),
        ("My card: 4111 1111 1111 1111!", "My card: [card]!"),
        ("From 192.168.0.17 and 2001:db8::ff00:42:8329", "From [ip] and [ip]"),
        ("SSN 536-90-4399", "SSN [ssn]"),
        ("Version 1.2.3, page 42, year 2026, 12:30:15", "Version 1.2.3, page 42, year 2026, 12:30:15"),
        ("std::vector is at section 4.1.2", "std::vector is at section 4.1.2"),
        ("4111 1111 1111 1112 has a wrong check digit", "4111 1111 1111 1112 has a wrong check digit"),
    ],
)
def test_personal_data_is_taken_out_and_numbers_of_other_kinds_stay(text: str, clean: str) -> None:
    assert PatternRedactor().redact(text) == clean


@pytest.mark.parametrize("text", ["@" * 16_384, "a." * 8_192, "1 " * 8_192, ":" * 16_384, "AB12" * 4_096, "1" * 16_384])
def test_redaction_takes_no_long_time_over_anything(text: str) -> None:
    began = time.perf_counter()
    PatternRedactor().redact(text)
    assert time.perf_counter() - began < 2


class Kit:
    """The use cases on one database, with a clock that can be set."""

    def __init__(self, database: Database) -> None:
        self.now = datetime.now(UTC)
        self.ledger = SqlLedger(database, encode=encoded)
        self.shelf = SqlShelf(database)
        log, clock = Telemetry(), lambda: self.now
        sampler = Sampler(Shares(thumb_down=1, disagreement=1))
        self.joiner = Joiner(codec=messages.CODEC, log=log, sampler=sampler)
        self.take = TakeFeedback(
            ledger=self.ledger,
            redactor=PatternRedactor(),
            codec=messages.CODEC,
            limit=RateLimit(per_minute=0, burst=1),
            clock=clock,
            log=log,
            rules=Rules(),
            sampler=sampler,
        )
        self.record = RecordAnswers(ledger=self.ledger, joiner=self.joiner, clock=clock, sampler=sampler)
        self.erase = EraseUser(ledger=self.ledger, codec=messages.CODEC, clock=clock)
        self.upkeep = LookAfter(
            ledger=self.ledger,
            joiner=self.joiner,
            clock=clock,
            log=log,
            wait=timedelta(days=7),
            keep=timedelta(days=31),
            keep_answers=timedelta(days=180),
        )

    async def give(self, message: upstream.FeedbackGiven, event_id: str = "") -> State:
        given = messages.given_from(message)
        arrival = Arrival(tenant=given.tenant, event_id=event_id or str(uuid4()), given=given)
        return (await self.take.one(arrival, Channel.GRPC)).state


@pytest.fixture
async def kit(database_url: str) -> AsyncIterator[Kit]:
    database = database_of(database_url)
    await database.migrate()
    yield Kit(database)
    await database.close()


async def test_answers_feedback_and_reviews_come_back_as_they_went_in(kit: Kit) -> None:
    answer_id, other = new_answer_id(), new_answer_id()
    message = served(answer_id)
    assert await kit.give(feedback(answer_id, thumb=upstream.Thumb(up=False))) is State.WAITING
    await kit.record([messages.answer_from(message), messages.answer_from(served(other))])
    assert (
        await kit.give(feedback(other, user_id="bob", citation=upstream.CitationJudgment(chunk_id="c1")))
        is State.JOINED
    )
    found = await kit.shelf.answer("acme", answer_id)
    assert found is not None
    assert found[0].record == message.SerializeToString()
    assert [row.kind for row in found[1]] == ["thumb-down"]
    counts = await kit.shelf.count("acme", "wiki", kit.now - timedelta(hours=1))
    assert (counts.kinds, counts.users, counts.waiting) == ({"thumb-down": 1, "citation-irrelevant": 1}, 2, 0)
    (item,) = await kit.shelf.reviews("acme", "wiki", "r1", wanted=1, count=5)
    assert (item.answer_id, item.sampled_by) == (answer_id, "thumb-down")
    read, which = Read(kit.shelf), RatingFilter(tenant="acme", since=kit.now, until=kit.now + timedelta(days=1))
    first, token = await read.ratings(which, page_size=1, page_token="", with_content=True)
    second, end = await read.ratings(which, page_size=1, page_token=token, with_content=False)
    assert {one.rating.answer_id for one in (*first, *second)} == {answer_id, other}
    assert (first[0].record is not None, second[0].record, end) == (True, None, "")
    lines, token = await read.answers(AnswerFilter(tenant="acme", document_id="d1"), page_size=1, page_token="")
    more, _ = await read.answers(AnswerFilter(tenant="acme", document_id="d1"), page_size=1, page_token=token)
    assert {lines[0].answer_id, more[0].answer_id} == {answer_id, other}


async def test_an_answer_people_disagree_over_is_put_before_raters_and_no_other(kit: Kit) -> None:
    disputed, praised, late = (new_answer_id() for _ in range(3))
    await kit.record([messages.answer_from(served(one)) for one in (disputed, praised)])
    for answer_id, stars in ((disputed, (1, 5)), (praised, (4, 5, 3)), (late, (5, 2))):
        for n, number in enumerate(stars):
            await kit.give(feedback(answer_id, user_id=f"u{n}", rating=upstream.Rating(stars=number)))

    async def queued() -> dict[str, str]:
        items = await kit.shelf.reviews("acme", "", "r1", wanted=1, count=9)
        return {item.answer_id: item.sampled_by for item in items}

    assert await queued() == {disputed: "disagreement"}
    await kit.record([messages.answer_from(served(late))])
    assert await queued() == {disputed: "disagreement", late: "disagreement"}


async def test_of_many_who_change_one_feedback_at_once_every_revision_is_made_once(kit: Kit) -> None:
    answer_id = new_answer_id()
    await kit.record([messages.answer_from(served(answer_id))])
    assert await kit.give(feedback(answer_id)) is State.JOINED
    await asyncio.gather(*(kit.give(feedback(answer_id, comment=str(n))) for n in range(5)))
    found = await kit.shelf.answer("acme", answer_id)
    assert found is not None
    assert [row.revision for row in found[1]] == [6]


async def test_an_event_another_replica_took_meanwhile_is_for_another_try(kit: Kit) -> None:
    past = Past(event_key="k", tenant="acme", feedback_id="", refusal=Refusal.INVALID, reason="a\x00b")
    async with kit.ledger.transaction() as books:
        await books.remember([past], kit.now)
    with pytest.raises(Transient):
        async with kit.ledger.transaction() as books:
            await books.remember([past], kit.now)
    async with kit.ledger.transaction() as books:
        assert (await books.past(["k"]))["k"].reason == "ab"


async def test_the_sweep_joins_what_was_missed_and_gives_up_what_is_late(kit: Kit) -> None:
    missed, late = new_answer_id(), new_answer_id()
    await kit.give(feedback(missed))
    await kit.give(feedback(late), "late")
    # As if the two had been written side by side, neither seeing the other.
    async with kit.ledger.transaction() as books:
        await books.add_answers([messages.answer_from(served(missed))])
    await kit.upkeep.sweep()
    assert await kit.ledger.waiting() == 1
    kit.now += timedelta(days=8)
    await kit.upkeep.sweep()
    assert await kit.ledger.waiting() == 0
    with pytest.raises(Refused, match="none turned up"):
        await kit.give(feedback(late), "late")


async def test_old_events_and_answers_nobody_spoke_of_are_forgotten(kit: Kit) -> None:
    spoken, silent = new_answer_id(), new_answer_id()
    await kit.record([messages.answer_from(served(spoken)), messages.answer_from(served(silent))])
    await kit.give(feedback(spoken))
    kit.now += timedelta(days=200)
    await kit.upkeep.forget()
    assert await kit.shelf.answer("acme", silent) is None
    assert await kit.shelf.answer("acme", spoken) is not None
    assert await kit.erase("acme", "ada") == Erased(feedbacks=1, answers=1)


async def test_of_a_person_who_is_erased_no_name_and_no_word_stays_in_the_store(kit: Kit) -> None:
    hers, his = [new_answer_id() for _ in range(3)], new_answer_id()
    await kit.record([messages.answer_from(served(one, user_id="zoe")) for one in hers])
    await kit.record([messages.answer_from(served(his, user_id="bob"))])
    await kit.give(feedback(hers[0], user_id="bob", thumb=upstream.Thumb(up=False)))
    assert len(await kit.shelf.reviews("acme", "", "r1", wanted=1, count=9)) == 1
    assert await kit.erase("acme", "zoe") == Erased(feedbacks=0, answers=3)
    assert await kit.erase("acme", "zoe") == Erased(feedbacks=0, answers=0)
    assert await kit.shelf.reviews("acme", "", "r1", wanted=1, count=9) == []
    digests: set[str] = set()
    for answer_id in hers:
        found = await kit.shelf.answer("acme", answer_id)
        assert found is not None
        for words in (b"zoe", b"Ada", b"mathematician", b"Text 1."):
            assert words not in found[0].record + found[0].cause
        cause = Cause.FromString(found[0].cause)
        assert [chunk.chunk_id for chunk in cause.chunks] == ["c1", "c2"]
        digests.add(cause.question_digest)
    assert len(digests) == 3
    kept = await kit.shelf.answer("acme", his)
    assert kept is not None
    assert b"mathematician" in kept[0].record
    lines, _ = await Read(kit.shelf).answers(AnswerFilter(tenant="acme", user_id="zoe"), page_size=9, page_token="")
    assert lines == []


@asynccontextmanager
async def service(kafka: str, folder: Path, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    addresses = folder / f"addresses-{uuid4()}.json"
    given = {"KAFKA": kafka, "DATA": str(folder), "ADDRESS_FILE": str(addresses), "SWEEP": "500ms", **settings}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "anabranch_feedback",
        env={**os.environ, **{f"ANABRANCH_FEEDBACK_{name}": value for name, value in given.items()}},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await poll_until(addresses.exists, deadline=60)
        assert json.loads(await asyncio.to_thread(addresses.read_text))["rpc"]
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 40)


@pytest.mark.connected
async def test_a_kill_in_the_middle_loses_nothing_and_counts_nothing_twice(
    kafka: str, tmp_path: Path, unique: Any
) -> None:
    tenant, count = unique("t"), 600
    answers = [new_answer_id() for _ in range(20)]
    consumer = AIOKafkaConsumer(
        topics.FEEDBACK_RATING_GIVEN.name, bootstrap_servers=kafka, auto_offset_reset="earliest"
    )
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await consumer.start()
    await producer.start()
    told: dict[tuple[str, int], set[str]] = {}

    async def send(event: Event[Any]) -> None:
        one = event.encode()
        await producer.send(one.topic, one.value, key=one.key, headers=list(one.headers))

    async def read() -> int:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                message = RatingGiven.FromString(record.value)
                if message.tenant == tenant:
                    event_id = dict(record.headers)["ce_id"].decode()
                    told.setdefault((message.feedback_id, message.revision), set()).add(event_id)
        return len(told)

    async def give(first: int) -> None:
        for n in range(first, first + count // 2):
            answer_id = answers[n % len(answers)]
            message = feedback(answer_id, tenant=tenant, user_id=f"u{n}")
            await send(Event(topic=topics.UPSTREAM_FEEDBACK_GIVEN, message=message, key=f"{tenant}/{answer_id}"))
        await producer.flush()

    try:
        async with service(kafka, tmp_path) as process:
            await give(0)
            for answer_id in answers:
                message = served(answer_id, tenant=tenant)
                await send(Event(topic=topics.GATEWAY_ANSWER_SERVED, message=message, key=f"{tenant}/{answer_id}"))
            await give(count // 2)
            await poll_until(read, deadline=60)
            process.kill()
            await process.wait()
        async with service(kafka, tmp_path):

            async def complete() -> bool:
                return await read() >= count

            await poll_until(complete, deadline=60)
            await read()
    finally:
        await producer.stop()
        await consumer.stop()
    assert len(told) == count
    assert all(len(ids) == 1 for ids in told.values())
