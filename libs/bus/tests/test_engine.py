"""The laws of the engine, over any mix of good, bad and unlucky records."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch import topics
from anabranch.ingestion.v1.events_pb2 import DocumentStatusChanged
from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_bus import Batch, Encoded, Outcome, Policy, Raw
from anabranch_bus.dead_letters import Death
from anabranch_bus.engine import Engine
from anabranch_bus.policy import Backoff, Halted, Limits
from anabranch_bus.subscription import Subscription
from anabranch_faults import Invalid, Overloaded, TooLarge, Transient, Unreachable

SOURCE = topics.UPSTREAM_DOCUMENT_CHANGED
TARGET = topics.INGESTION_DOCUMENT_STATUS
PATIENT = Policy(in_a_row=10_000, window=10_000, share=1.0)
BEHAVIOURS = (
    "good",
    "invalid",
    "raises invalid",
    "bug",
    "bug once",
    "retry once",
    "retry always",
    "raises transient once",
    "overloaded once",
    "unreadable",
)


class Recorder:
    """A port that remembers the order of everything."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        self.deaths: list[tuple[Raw, Death]] = []
        self.waits: list[bool] = []
        self.outages = 0
        self.limit = 10**9

    async def publish(self, encoded: Sequence[Encoded]) -> None:
        await asyncio.sleep(0)
        if self.outages:
            self.outages -= 1
            raise Unreachable("the broker is away")
        if any(len(one.value) > self.limit for one in encoded):
            raise TooLarge("too large")
        self.log += [("published", one) for one in encoded]

    def advance(self, offset: int) -> None:
        self.log.append(("advanced", offset))

    async def wait(self, delay: timedelta, fault: Exception, *, paused: bool) -> None:
        self.waits.append(paused)
        await asyncio.sleep(0)

    def handled(self, count: int, seconds: float) -> None:
        self.log.append(("handled", count))

    def died(self, raw: Raw, death: Death) -> None:
        self.deaths.append((raw, death))


class Handler:
    """Does what each record's text says."""

    def __init__(self) -> None:
        self.seen: Counter[int] = Counter()

    async def __call__(self, batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        outcome = batch.outcome()
        for record in batch:
            self.seen[record.offset] += 1
            first = self.seen[record.offset] == 1
            match record.message.text:
                case "raises invalid":
                    raise Invalid("never")
                case "bug":
                    raise ZeroDivisionError("bug")
                case "bug once" if first:
                    raise ZeroDivisionError("bug")
                case "raises transient once" if first:
                    raise Transient("later")
                case "overloaded once" if first:
                    raise Overloaded("full")
                case "invalid":
                    outcome.invalid(record, Invalid("never"))
                case "retry always":
                    outcome.retry(record, Transient("later"))
                case "retry once" if first:
                    outcome.retry(record, Transient("later"))
            outcome.publish(TARGET, DocumentStatusChanged(caused_by=record.event_id), key=record.key, caused_by=record)
        return outcome


def raw(offset: int, key: str, text: str) -> Raw:
    message = DocumentChanged(tenant="t", corpus="c", document_id=key, text=text)
    return Raw(
        topic=SOURCE.name,
        partition=0,
        offset=offset,
        timestamp=datetime.now(UTC),
        key=key.encode(),
        value=b"\xff" if text == "unreadable" else message.SerializeToString(),
        headers=(("ce_id", f"event-{offset}".encode()),),
    )


def engine(handler: Any, port: Recorder, policy: Policy = PATIENT, **changes: Any) -> Engine:
    subscription = Subscription(
        topic=SOURCE.name,
        group="g",
        read=SOURCE,
        handler=handler,
        max_records=64,
        max_wait=timedelta(0),
        unreadable=None,
        stuck_after=timedelta(seconds=60),
        dead_letters=SOURCE.dead_letters("g"),
    )
    return Engine(replace(subscription, **changes), port, policy=policy, code_version="1", rng=random.Random(0))  # noqa: S311  jitter


RECORDS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(BEHAVIOURS)), min_size=1, max_size=20)


@settings(max_examples=200, deadline=None)
@given(records=RECORDS, outages=st.integers(0, 3))
def test_every_record_ends_done_or_dead_once_in_order_and_after_its_effects(
    records: list[tuple[str, str]], outages: int
) -> None:
    port = Recorder()
    port.outages = outages
    raws = [raw(offset, key, text) for offset, (key, text) in enumerate(records)]
    asyncio.run(engine(Handler(), port).settle(raws))

    settled: list[str] = []
    order: dict[bytes, list[int]] = defaultdict(list)
    advanced = 0
    for kind, what in port.log:
        if kind == "published":
            headers = {name: value.decode() for name, value in what.headers}
            cause = headers.get("dlq_event_id") or headers["ce_causedby"]
            settled.append(cause)
            if what.topic == TARGET.name:
                order[what.key].append(int(cause.removeprefix("event-")))
        elif kind == "advanced":
            assert what >= advanced
            advanced = what
            missing = {f"event-{offset}" for offset in range(what)} - set(settled)
            assert not missing, f"advanced to {what} before the effects of {missing}"
    assert advanced == len(records)
    assert Counter(settled) == Counter(f"event-{offset}" for offset in range(len(records)))
    for offsets in order.values():
        assert offsets == sorted(offsets)
    lost = {"invalid", "raises invalid", "bug", "retry always", "unreadable"}
    assert sorted(r.offset for r, _ in port.deaths) == [n for n, (_, text) in enumerate(records) if text in lost]


@settings(max_examples=100, deadline=None)
@given(records=RECORDS, steps=st.integers(0, 60))
def test_a_cancelled_handler_never_lets_anything_unsettled_be_committed(
    records: list[tuple[str, str]], steps: int
) -> None:
    port = Recorder()
    raws = [raw(offset, key, text) for offset, (key, text) in enumerate(records)]

    async def cancelled_after_some_steps() -> None:
        task = asyncio.create_task(engine(Handler(), port).settle(raws))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(cancelled_after_some_steps())
    settled = {
        dict(one.headers).get("dlq_event_id") or dict(one.headers)["ce_causedby"]
        for kind, one in port.log
        if kind == "published"
    }
    advanced = max((what for kind, what in port.log if kind == "advanced"), default=0)
    assert {f"event-{offset}".encode() for offset in range(advanced)} <= settled


async def test_the_culprit_is_found_in_few_calls() -> None:
    port, handler = Recorder(), Handler()
    await engine(handler, port).settle([raw(n, "k", "bug" if n == 37 else "good") for n in range(64)])
    assert [r.offset for r, _ in port.deaths] == [37]
    calls = sum(kind == "handled" for kind, _ in port.log)
    assert calls <= 2 * 6 + 1 + 3


async def test_an_outage_charges_no_attempt_and_is_a_pause() -> None:
    port, calls = Recorder(), 0

    async def handler(batch: Batch[Any]) -> Outcome[Any]:
        nonlocal calls
        calls += 1
        if calls <= 50:
            raise Unreachable("the index is away")
        return batch.outcome()

    await engine(handler, port).settle([raw(0, "k", "good")])
    assert port.waits == [True] * 50
    assert not port.deaths


async def test_a_record_that_keeps_failing_for_a_passing_reason_is_dead_after_its_attempts() -> None:
    port, handler = Recorder(), Handler()
    await engine(handler, port).settle([raw(0, "k", "retry always")])
    ((_, death),) = port.deaths
    assert (death.cause.value, death.attempts, death.error) == ("exhausted", 5, "anabranch_faults.Transient")
    assert handler.seen[0] == 5


async def test_a_handler_that_ends_itself_with_cancelled_error_is_a_bug_of_the_handler() -> None:
    async def handler(batch: Batch[Any]) -> Outcome[Any]:
        raise asyncio.CancelledError

    port = Recorder()
    await engine(handler, port).settle([raw(0, "k", "good")])
    assert port.deaths[0][1].reason.startswith("the handler ended itself")


async def test_a_handler_that_returns_nothing_is_a_bug_of_the_handler() -> None:
    async def handler(batch: Batch[Any]) -> Any:
        return None

    port = Recorder()
    await engine(handler, port).settle([raw(0, "k", "good")])
    assert port.deaths[0][1].error == "TypeError"


async def test_an_event_over_the_limit_makes_its_cause_a_dead_letter_and_no_other() -> None:
    async def handler(batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        outcome = batch.outcome()
        for record in batch:
            status = DocumentStatusChanged(caused_by=record.message.text)
            outcome.publish(TARGET, status, key=record.key, caused_by=record)
        return outcome

    port = Recorder()
    port.limit = 200
    await engine(handler, port).settle([raw(0, "a", "x"), raw(1, "b", "x" * 150), raw(2, "c", "x" * 250)])
    assert [r.offset for r, _ in port.deaths] == [2]
    assert port.deaths[0][1].error == "anabranch_faults.TooLarge"


async def test_a_dead_letter_over_the_limit_is_kept_without_its_body() -> None:
    port = Recorder()
    port.limit = 100
    await engine(Handler(), port).settle([raw(0, "a", "invalid"), replace(raw(1, "a", ""), value=b"\xff" * 200)])
    letters = [one for kind, one in port.log if kind == "published"]
    assert [(len(one.value), dict(one.headers).get("dlq_body_omitted") == b"true") for one in letters] == [
        (len(raw(0, "a", "invalid").value or b""), False),
        (0, True),
    ]


async def test_an_answer_to_unreadable_bytes_is_tried_again_and_then_done_without() -> None:
    tried = 0

    async def unreadable(record: Any) -> Sequence[Any]:
        nonlocal tried
        tried += 1
        raise ZeroDivisionError("bug")

    port = Recorder()
    await engine(Handler(), port, unreadable=unreadable).settle([raw(0, "k", "unreadable")])
    assert tried == 3
    assert port.deaths[0][1].cause.value == "unreadable"


async def test_past_fifty_in_a_row_nothing_more_dies() -> None:
    port = Recorder()
    with pytest.raises(Halted, match="50 dead letters in a row"):
        await engine(Handler(), port, Policy()).settle([raw(n, "k", "invalid") for n in range(64)])
    assert len(port.deaths) == 50
    assert max(what for kind, what in port.log if kind == "advanced") == 50


@given(fates=st.lists(st.booleans(), max_size=400))
def test_limits_hold_for_any_order_of_fates(fates: list[bool]) -> None:
    limits = Limits(Policy(in_a_row=5, share=0.1, window=50))
    recent: list[bool] = []
    for dead in fates:
        if dead:
            row = next((n for n, fate in enumerate(reversed(recent)) if not fate), len(recent))
            past = row >= 5 or (len(recent) >= 50 and sum(recent[-50:]) + 1 > 5)
            if past:
                with pytest.raises(Halted):
                    limits.check()
                return
            limits.check()
            limits.dead()
        else:
            limits.done()
        recent.append(dead)


def test_a_back_off_grows_to_its_longest_with_full_jitter() -> None:
    backoff, rng = Backoff(first=timedelta(seconds=1), longest=timedelta(seconds=8)), random.Random(1)  # noqa: S311  jitter
    for n in range(100):
        ceiling = timedelta(seconds=min(8, 2**n if n < 10 else 8))
        assert timedelta(0) <= backoff.wait(n, rng=rng) <= ceiling
    assert backoff.wait(0, rng=rng, at_least=timedelta(seconds=30)) == timedelta(seconds=30)
    assert backoff.wait(0, rng=rng, at_least=timedelta(days=1)) == timedelta(minutes=1)
