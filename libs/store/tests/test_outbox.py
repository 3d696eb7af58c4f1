"""Events leave if their transaction was committed: in order, at least once, with the same bytes every time."""

import asyncio
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from sqlalchemy import text

from anabranch_faults import TooLarge, Unreachable
from anabranch_store import Database, Encoded, Outbox, OutboxRelay, Stored
from anabranch_testkit import poll_until

Replica = Callable[..., Awaitable[Database]]


class Broker:
    """Stands for the bus; fails as it is told."""

    def __init__(self) -> None:
        self.taken: list[Encoded] = []
        self.outage = False
        self.refuses: set[bytes] = set()

    async def publish_encoded(self, events: Sequence[Encoded]) -> None:
        await asyncio.sleep(0)
        if self.outage:
            raise Unreachable("the broker is away")
        for event in events:
            if event.value in self.refuses:
                raise TooLarge("too large")
        self.taken += events

    @property
    def values(self) -> list[bytes]:
        return [event.value for event in self.taken]


def event(value: str, key: str = "k") -> Stored:
    headers = (("ce_id", f"id-{value}".encode()), ("binary", b"\x00\xff"))
    return Stored(topic="things.thing.changed.v1", key=key.encode(), value=value.encode(), headers=headers)


async def write(database: Database, *events: Stored) -> None:
    async with database.transaction() as tx:
        await Outbox.add(tx, *events)


async def left(database: Database) -> int:
    async with database.reading() as tx:
        return int((await tx.execute(text("SELECT count(*) FROM outbox"))).scalar_one())


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
async def run() -> AsyncIterator[Callable[[OutboxRelay], None]]:
    async with AsyncExitStack() as stack:

        def start(relay: OutboxRelay) -> None:
            task = asyncio.create_task(relay.run())

            async def stop() -> None:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

            stack.push_async_callback(stop)

        yield start


async def test_an_event_leaves_as_it_was_written_and_is_gone(database: Database, broker: Broker) -> None:
    await write(database, event("a"))
    assert await OutboxRelay(database, broker.publish_encoded).drain() == 1
    assert broker.taken == [event("a")]
    assert await left(database) == 0


async def test_an_event_of_a_failed_transaction_never_leaves(database: Database, broker: Broker) -> None:
    relay = OutboxRelay(database, broker.publish_encoded)

    async def fail() -> None:
        async with database.transaction() as tx:
            await Outbox.add(tx, event("a"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await relay.drain() == 0


async def test_an_event_does_not_leave_before_the_commit(database: Database, broker: Broker) -> None:
    relay = OutboxRelay(database, broker.publish_encoded)
    async with database.transaction() as tx:
        await Outbox.add(tx, event("a"))
        assert await relay._any() is False
    assert await relay.drain() == 1


async def test_a_commit_wakes_the_relay_at_once(database: Database, broker: Broker, run: Any) -> None:
    run(OutboxRelay(database, broker.publish_encoded, poll=timedelta(seconds=60)))
    await asyncio.sleep(0)
    took = []
    for number in range(20):
        await write(database, event(str(number)))
        committed = perf_counter()
        await poll_until(lambda: len(broker.taken) > number, every=timedelta(milliseconds=1))  # noqa: B023  awaited here
        took.append(perf_counter() - committed)
    # Idle it takes 2 to 8 ms; the bound leaves room for a busy machine.
    assert sorted(took)[len(took) // 2] < 0.1


async def test_an_event_of_a_replica_that_died_is_found_by_looking(
    database: Database, replica: Replica, broker: Broker, run: Any
) -> None:
    run(OutboxRelay(database, broker.publish_encoded, poll=timedelta(milliseconds=50)))
    await write(await replica(), event("orphan"))
    await poll_until(lambda: broker.values == [b"orphan"])


async def test_more_than_a_batch_leaves_in_order(database: Database, broker: Broker) -> None:
    await write(database, *(event(f"{number:03}") for number in range(25)))
    relay = OutboxRelay(database, broker.publish_encoded, batch=10)
    assert await relay.drain() == 25
    assert broker.values == sorted(broker.values)


async def test_an_outage_is_waited_out_and_loses_nothing(database: Database, broker: Broker, run: Any) -> None:
    broker.outage = True
    run(OutboxRelay(database, broker.publish_encoded, max_backoff=timedelta(milliseconds=50)))
    await write(database, event("a"))
    await write(database, event("b"))
    await asyncio.sleep(0.1)
    assert (broker.taken, await left(database)) == ([], 2)
    broker.outage = False
    await poll_until(lambda: broker.values == [b"a", b"b"])


async def test_an_event_the_broker_never_takes_holds_up_nobody_and_stays_with_its_reason(
    database: Database, broker: Broker
) -> None:
    broker.refuses = {b"bad"}
    await write(database, event("a"), event("bad"), event("b"))
    await OutboxRelay(database, broker.publish_encoded).drain()
    assert broker.values == [b"a", b"b"]
    async with database.reading() as tx:
        rows = (await tx.execute(text("SELECT value, refused FROM outbox"))).all()
    assert [(bytes(value), refused) for value, refused in rows] == [(b"bad", "too large")]


async def test_replicas_take_turns_and_keep_the_order_of_each_key(
    database: Database, replica: Replica, broker: Broker, run: Any
) -> None:
    replicas = [database, await replica(), await replica()]
    for one in replicas:
        run(OutboxRelay(one, broker.publish_encoded, batch=7, poll=timedelta(milliseconds=50)))

    async def writer(key: str, one: Database) -> None:
        for number in range(20):
            await write(one, event(f"{key}:{number:03}", key))

    await asyncio.gather(*(writer(f"k{number}", one) for number, one in enumerate(replicas * 2)))
    await poll_until(lambda: len(broker.taken) >= 120, deadline=30)
    by_key: dict[bytes, list[bytes]] = defaultdict(list)
    for taken in broker.taken:
        by_key[taken.key].append(taken.value)
    assert len(broker.taken) == 120
    assert all(values == sorted(values) for values in by_key.values())


CRASHER = """
import asyncio, os, sys
from anabranch_store import Database, Outbox, OutboxRelay, Stored

url, package, output = sys.argv[1:]

async def publish(events):
    with open(output, "ab") as file:
        for event in events:
            file.write(dict(event.headers)["ce_id"] + b"\\n")
        file.flush()
        os.fsync(file.fileno())
    print("published", flush=True)
    await asyncio.sleep(600)

async def main():
    database = Database(url, schema="things", migrations=package)
    await database.migrate()
    async with database.transaction() as tx:
        await Outbox.add(tx, Stored(topic="t", key=b"k", value=b"v", headers=(("ce_id", b"the-one"),)))
    await OutboxRelay(database, publish).run()

asyncio.run(main())
"""


@pytest.mark.connected
async def test_a_process_killed_between_publishing_and_marking_publishes_the_same_event_again(
    database: Database, database_url: str, package: str, broker: Broker, tmp_path: Path
) -> None:
    output = tmp_path / "published"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CRASHER, database_url, package, str(output)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "packages")},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"published\n"
    process.kill()
    await process.wait()
    # Its locks died with it.
    assert await asyncio.wait_for(OutboxRelay(database, broker.publish_encoded).drain(), 20) == 1
    assert output.read_bytes() == b"the-one\n"
    assert [dict(one.headers)["ce_id"] for one in broker.taken] == [b"the-one"]
