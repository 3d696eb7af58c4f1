"""What only a broker can show: partitions, commits, rebalances, stuck clients and handlers."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_bus import Batch, BusSettings, Cause, Encoded, Event, KafkaBus, KafkaClient, Outcome
from anabranch_bus.dead_letters import DeadLetter, exhume
from anabranch_bus.testing import GROUP, QUICK, Names, committed_on, create, names_for
from anabranch_faults import TooLarge, Unreachable
from anabranch_observability import exposition
from anabranch_testkit import poll_until

pytestmark = pytest.mark.connected

PARTITIONS = 3


class Place:
    """Topics on a broker, and buses that read them."""

    def __init__(self, bootstrap: str, names: Names, state: Path) -> None:
        self.bootstrap = bootstrap
        self.names = names
        self.settings = BusSettings(bootstrap=bootstrap, state=state, policy=QUICK)

    @asynccontextmanager
    async def bus(self, handler: Any, **changes: Any) -> AsyncIterator[KafkaBus]:
        options = {name: changes.pop(name) for name in ("stuck_after", "max_records") if name in changes}
        gather = changes.pop("gather", None)
        bus = KafkaBus(replace(self.settings, **changes))
        bus.subscriber(self.names.source, group=GROUP, **options)(handler)
        if gather is not None:
            bus.gather(GROUP, up_to=gather)
        await bus.start()
        try:
            yield bus
        finally:
            await bus.stop()

    def event(self, text: str, key: str = "") -> Event[DocumentChanged]:
        message = DocumentChanged(tenant="t", text=text)
        return Event(topic=self.names.source, message=message, key=key or text)

    async def committed(self) -> int:
        return await committed_on(self.bootstrap, self.names.source)

    async def all_committed(self, count: int, *, deadline: float = 20) -> None:
        async def there() -> bool:
            return await self.committed() == count

        await poll_until(there, deadline=deadline, what=f"{count} committed")

    async def dead(self) -> list[DeadLetter]:
        async with KafkaClient(self.bootstrap) as client:
            return [exhume(raw) for raw in await client.backlog(self.names.source.dead_letters(GROUP))]


@pytest.fixture
async def place(kafka: str, unique: Callable[[str], str], tmp_path: Path) -> Place:
    names = names_for(unique, partitions=PARTITIONS)
    await create(kafka, names)
    return Place(kafka, names, tmp_path)


async def test_a_partition_that_waits_for_a_dependency_holds_up_no_other(place: Place) -> None:
    away = True
    seen: set[str] = set()
    partitions: dict[str, int] = {}

    async def handler(batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        for record in batch:
            partitions[record.key] = record.partition
        if away and any(record.key == "a" for record in batch):
            raise Unreachable("the index is away")
        seen.update(record.message.text for record in batch)
        return batch.outcome()

    async with place.bus(handler) as bus:
        await bus.publish(place.event("a0", "a"), *(place.event(f"{n}", f"key {n}") for n in range(30)))
        await poll_until(lambda: len(partitions) == 31)
        others = {str(n) for n in range(30) if partitions[f"key {n}"] != partitions["a"]}
        await poll_until(lambda: others <= seen)
        await poll_until(lambda: _metric("anabranch_bus_paused", place) == 1)
        assert await place.committed() >= len(others)
        away = False
        await place.all_committed(31)
        assert _metric("anabranch_bus_paused", place) == 0
        assert await place.dead() == []


async def test_records_that_come_singly_to_a_group_that_gathers_are_handled_together(place: Place) -> None:
    sizes: list[int] = []

    async def handler(records: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        sizes.append(len(records))
        return records.outcome()

    async with place.bus(handler, gather=timedelta(seconds=1)) as bus:
        for number in range(30):
            await bus.publish(place.event(str(number)))
            await asyncio.sleep(0.01)
        await place.all_committed(30)
    assert len(sizes) <= 4 * PARTITIONS, sizes


async def test_a_handler_that_is_cancelled_commits_nothing(place: Place) -> None:
    begun = asyncio.Event()

    async def handler(batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        begun.set()
        await asyncio.sleep(60)
        return batch.outcome()

    async with place.bus(handler, drain=timedelta(milliseconds=100)) as bus:
        await bus.publish(place.event("a"))
        await begun.wait()
    assert await place.committed() == 0


async def test_a_handler_that_hangs_three_times_over_a_record_gives_it_up(place: Place) -> None:
    seen: list[str] = []

    async def handler(batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        for record in batch:
            if record.message.text == "hang":
                await asyncio.sleep(600)
            seen.append(record.message.text)
        return batch.outcome()

    async with place.bus(handler, stuck_after=timedelta(seconds=0.5), watch_every=timedelta(seconds=0.1)) as bus:
        await bus.publish(*(place.event(text, "k") for text in ("a", "b", "hang", "c")))
        await place.all_committed(4, deadline=40)
    (letter,) = await place.dead()
    assert (letter.cause, letter.attempts) == (Cause.KILLED, 3)
    assert set(seen) == {"a", "b", "c"}


async def test_a_client_that_stopped_reading_is_built_anew(place: Place) -> None:
    seen: list[str] = []

    async def handler(batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        seen.extend(record.message.text for record in batch)
        return batch.outcome()

    quick = {"watch_every": timedelta(seconds=0.2), "stalled_after": timedelta(seconds=1)}
    async with place.bus(handler, **quick) as bus:
        await bus.publish(place.event("before"))
        await place.all_committed(1)
        bus._groups[0].reader.client._fetcher._fetch_task.cancel()
        await bus.publish(place.event("after"))
        await poll_until(lambda: "after" in seen, deadline=10)
        await place.all_committed(2)


async def test_when_a_member_joins_and_leaves_nothing_is_lost_and_order_is_kept(place: Place) -> None:
    seen: dict[str, list[int]] = defaultdict(list)
    by: dict[str, set[int]] = defaultdict(set)

    def handler(member: str) -> Any:
        async def handle(batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
            await asyncio.sleep(0.01)
            for record in batch:
                seen[record.key].append(int(record.message.text))
                by[member].add(record.partition)
            return batch.outcome()

        return handle

    enough = asyncio.Event()

    async def trickle(bus: KafkaBus) -> int:
        n = 0
        while not enough.is_set():
            await bus.publish(*(place.event(str(n + m), f"k{m}") for m in range(20)))
            n += 20
        return n

    async with place.bus(handler("one"), max_records=8) as one:
        sending = asyncio.create_task(trickle(one))
        await poll_until(lambda: sum(map(len, seen.values())) > 50)
        async with place.bus(handler("two"), max_records=8):
            await poll_until(lambda: by["two"], deadline=20)
        await poll_until(lambda: sum(map(len, seen.values())) > 500, deadline=20)
        enough.set()
        count = await sending
        await place.all_committed(count)
    assert sum(len(set(numbers)) for numbers in seen.values()) == count
    for numbers in seen.values():
        firsts = list(dict.fromkeys(numbers))
        assert firsts == sorted(firsts)
    assert sum(n - 1 for numbers in seen.values() for n in Counter(numbers).values()) == 0


async def test_headers_that_are_not_utf_8_stop_nothing(place: Place) -> None:
    seen: list[str] = []

    async def handler(batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        seen.extend(record.message.text for record in batch)
        return batch.outcome()

    async with place.bus(handler) as bus:
        odd = Encoded(
            topic=place.names.source.name,
            key=b"k",
            value=json.dumps({"text": "odd"}).encode(),
            headers=(("x", b"\xff\xfe"),),
        )
        await bus.publish_encoded([odd, place.event("even", "k").encode()])
        await place.all_committed(2)
    assert seen == ["odd", "even"]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_that_producers_choose_is_read(place: Place, codec: Any) -> None:
    from aiokafka import AIOKafkaProducer  # noqa: PLC0415  a producer of somebody else

    seen: list[str] = []

    async def handler(batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        seen.extend(record.message.text for record in batch)
        return batch.outcome()

    async with place.bus(handler):
        async with AIOKafkaProducer(bootstrap_servers=place.bootstrap, compression_type=codec) as producer:
            await producer.send_and_wait(place.names.source.name, json.dumps({"text": "x" * 5000}).encode())
        await place.all_committed(1)
    assert seen == ["x" * 5000]


async def test_a_broker_that_is_not_there_is_said_so_in_time(tmp_path: Path, free_port: Callable[[], int]) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    bus = KafkaBus(BusSettings(bootstrap=nowhere, start_timeout=timedelta(seconds=1)))
    with pytest.raises(Unreachable, match=nowhere):
        await bus.start()
    assert bus.ready == "the bus is not started"


async def test_a_topic_that_does_not_exist_is_named(place: Place) -> None:
    bus = KafkaBus(replace(place.settings, start_timeout=timedelta(seconds=1)))
    missing = replace(place.names.source, name=f"{place.names.source.name}-missing")

    @bus.subscriber(missing, group="nobody")
    async def handler(batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        return batch.outcome()

    with pytest.raises(Unreachable, match="nobody"):
        await bus.start()


async def test_a_consumer_whose_client_is_lost_gets_another_and_abandoned_records_come_again(place: Place) -> None:
    held, seen = asyncio.Event(), list[str]()

    async def handler(batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        if not held.is_set():
            held.set()
            await asyncio.sleep(600)
        seen.extend(record.message.text for record in batch)
        return batch.outcome()

    async with place.bus(handler, watch_every=timedelta(seconds=0.2)) as bus:
        await bus.publish(*(place.event(str(n), "k") for n in range(100)))
        await held.wait()
        restarting = asyncio.create_task(bus._groups[0].restart("test"))
        await bus.publish(*(place.event(str(n), "k") for n in range(100, 200)))
        await restarting
        await place.all_committed(200)
        assert seen == [str(n) for n in range(200)]
        await bus._groups[0].reader.stop()
        await bus.publish(place.event("after", "k"))
        await place.all_committed(201)


async def test_an_event_over_its_topic_s_limit_is_refused_before_it_is_sent(place: Place) -> None:
    bus = KafkaBus(place.settings)
    from anabranch import topics  # noqa: PLC0415  only here is a real topic's limit of interest
    from anabranch.ingestion.v1.events_pb2 import DocumentStatusChanged  # noqa: PLC0415  as above

    big = DocumentStatusChanged(caused_by="x" * 2 * 1024 * 1024)
    with pytest.raises(TooLarge, match="the limit is 1,048,576"):
        await bus.publish(Event(topic=topics.INGESTION_DOCUMENT_STATUS, message=big, key="k"))
    await bus.stop()


def _metric(name: str, place: Place) -> float:
    for line in exposition().decode().splitlines():
        if line.startswith(name) and place.names.source.name in line:
            return float(line.rsplit(" ", 1)[1])
    raise LookupError(name)


async def test_news_pass_over_what_was_there_and_tell_of_a_gap_when_the_client_is_built_anew(place: Place) -> None:
    heard: list[str] = []
    gaps: list[int] = []
    before, after = KafkaBus(place.settings), KafkaBus(place.settings)
    await before.publish(*(place.event(f"old-{number}") for number in range(5)))

    async def gap() -> None:
        gaps.append(len(heard))

    @after.news(place.names.source, gap=gap)
    async def on_change(key: str, value: DocumentChanged | None) -> None:
        assert value is not None
        heard.append(key)

    await after.start()
    try:
        await poll_until(lambda: after.ready is None)
        await before.publish(*(place.event(f"new-{number}") for number in range(5)))
        await poll_until(lambda: len(heard) == 5)
        assert sorted(heard) == [f"new-{number}" for number in range(5)]
        assert gaps == []
        (reader,) = after._table_readers
        await reader.restart("test")
        assert gaps == [5, 5]
        await before.publish(place.event("later"))
        await poll_until(lambda: len(heard) == 6)
        assert heard[-1] == "later"
    finally:
        await after.stop()
        await before.stop()
