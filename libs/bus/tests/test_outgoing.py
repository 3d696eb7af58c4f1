"""What waits in memory to be published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from anabranch_bus import Encoded, Outgoing
from anabranch_bus.outgoing import FIRST_WAIT
from anabranch_faults import Invalid, Unreachable
from anabranch_testkit import poll_until

SECOND = timedelta(seconds=1)


class Broker:
    """Takes batches, unless it is away, and refuses what it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.away = False
        self.tried = 0
        self.refused: set[str] = set()

    async def publish(self, encoded: Sequence[Encoded]) -> None:
        self.tried += 1
        keys = [each.key.decode() for each in encoded]
        if self.away:
            raise Unreachable("the broker is away")
        if self.refused & set(keys):
            raise Invalid("is too large", field="value")
        self.batches.append(keys)

    @property
    def keys(self) -> list[str]:
        return [key for batch in self.batches for key in batch]


class Heard:
    """What a watcher was told."""

    def __init__(self) -> None:
        self.given_up: list[tuple[str, list[str]]] = []
        self.delays = 0
        self.most = 0

    def lost(self, reason: str, items: Sequence[str], *, problem: str = "") -> None:
        del problem
        self.given_up.append((reason, list(items)))

    def delayed(self, waiting: int, *, problem: str) -> None:
        del waiting, problem
        self.delays += 1

    def held(self, waiting: int) -> None:
        self.most = max(self.most, waiting)


def encoded(item: str) -> Encoded | None:
    return None if item == "nothing" else Encoded(topic="t", key=item.encode(), value=b"", headers=())


@asynccontextmanager
async def outgoing(broker: Broker, heard: Heard, *, linger: timedelta = timedelta(0)) -> AsyncIterator[Outgoing[str]]:
    queue = Outgoing(broker.publish, encode=encoded, watcher=heard, capacity=6, batch=3, linger=linger)
    task = asyncio.create_task(queue.run())
    yield queue
    task.cancel()
    await asyncio.wait([task])


async def test_they_go_out_in_order_and_in_batches() -> None:
    broker, heard = Broker(), Heard()
    async with outgoing(broker, heard) as queue:
        assert queue.add(list("abcde"))
        await queue.flush(SECOND)
    assert broker.batches == [["a", "b", "c"], ["d", "e"]]
    assert (heard.most, queue.waiting, heard.given_up) == (5, 0, [])


async def test_one_that_comes_alone_waits_for_company_but_no_longer_than_it_may() -> None:
    broker = Broker()
    async with outgoing(broker, Heard(), linger=timedelta(milliseconds=50)) as queue:
        queue.add(["a"])
        await asyncio.sleep(0)
        queue.add(["b"])
        await poll_until(lambda: broker.batches, deadline=2, what="published")
    assert broker.batches == [["a", "b"]]


async def test_more_than_there_is_room_for_stays_the_callers() -> None:
    broker = Broker()
    broker.away = True
    async with outgoing(broker, Heard()) as queue:
        assert queue.add(list("abcd"))
        assert not queue.add(list("efg"))
        assert queue.add(list("ef"))


async def test_a_broker_that_is_away_is_tried_again_and_nothing_is_lost() -> None:
    broker, heard = Broker(), Heard()
    broker.away = True
    async with outgoing(broker, heard) as queue:
        queue.add(["a", "b"])
        await poll_until(lambda: heard.delays, deadline=2, what="a delay")
        broker.away = False
        await queue.flush(10 * FIRST_WAIT)
    assert (broker.keys, heard.given_up) == (["a", "b"], [])


async def test_one_that_can_never_be_published_takes_no_neighbour_with_it() -> None:
    broker, heard = Broker(), Heard()
    broker.refused = {"b"}
    async with outgoing(broker, heard) as queue:
        queue.add(["a", "b", "c"])
        await queue.flush(SECOND)
    assert (sorted(broker.keys), heard.given_up) == (["a", "c"], [("refused", ["b"])])


async def test_where_there_is_nothing_to_say_nothing_is_published() -> None:
    broker, heard = Broker(), Heard()
    async with outgoing(broker, heard) as queue:
        queue.add(["nothing"])
        await queue.flush(SECOND)
    assert (broker.batches, heard.given_up, queue.waiting) == ([], [], 0)


@pytest.mark.parametrize("count", [2, 5])
async def test_what_cannot_go_before_the_end_is_given_up_by_name(count: int) -> None:
    broker, heard = Broker(), Heard()
    broker.away = True
    async with outgoing(broker, heard) as queue:
        queue.add(list("abcde")[:count])
        await poll_until(lambda: broker.tried, deadline=2, what="a try")
        await queue.flush(timedelta(milliseconds=50))
    assert heard.given_up == [("stopped", list("abcde")[:count])]


async def test_who_waits_for_room_is_told_when_there_is_some() -> None:
    broker = Broker()
    broker.away = True
    async with outgoing(broker, Heard()) as queue:
        queue.add(list("abcdef"))
        await queue.moved(timedelta(milliseconds=20))
        assert not queue.add(["g"])
        broker.away = False
        await queue.moved(10 * FIRST_WAIT)
        assert queue.add(["g"])
