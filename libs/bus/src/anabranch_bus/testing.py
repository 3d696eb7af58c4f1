"""For tests: a bus in memory and a bus on a real broker behind one face, so that every fate is specified once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from anabranch import topics
from anabranch.topics import Topic
from anabranch_bus import Bus, BusSettings, DeadLetter, Event, KafkaBus, KafkaClient, MemoryBus, Policy, Record
from anabranch_bus.codec import read
from anabranch_bus.dead_letters import exhume, marked
from anabranch_bus.events import Encoded
from anabranch_bus.policy import Backoff

__all__ = ["GROUP", "QUICK", "InMemory", "Names", "OnKafka", "Stage", "committed_on", "create", "names_for"]

GROUP = "readers"
_PATIENCE = 20.0
_EVERY = 0.02
QUICK = Policy(
    retry=Backoff(first=timedelta(milliseconds=5), longest=timedelta(milliseconds=50)),
    pause=Backoff(first=timedelta(milliseconds=5), longest=timedelta(milliseconds=50)),
)


@dataclass(frozen=True, kw_only=True)
class Names:
    """Topics of one test: where records come from, where handlers publish, and a table."""

    source: Topic[Any]
    target: Topic[Any]
    table: Topic[Any]


class Stage(Protocol):
    """What the tests of fates need of a bus and of what is behind it."""

    names: Names
    bus: Bus

    async def run(self, events: Sequence[Event | Encoded]) -> None:
        """Start if need be, put events on their topics, return when all are settled or the bus has halted."""

    async def published(self) -> list[Record[Any]]:
        """What is on the target topic, in order within a partition."""

    async def dead(self) -> list[DeadLetter]:
        """The dead letters of the source."""

    async def committed(self) -> int:
        """How many records of the source are committed."""


def names_for(unique: Callable[[str], str], *, partitions: int = 1) -> Names:
    """Topics that no other test has."""
    return Names(
        source=replace(topics.UPSTREAM_DOCUMENT_CHANGED, name=unique("source"), owner="test", partitions=partitions),
        target=replace(topics.INGESTION_DOCUMENT_STATUS, name=unique("target"), partitions=1),
        table=replace(topics.REGISTRY_ROUTING_CHANGED, name=unique("table"), partitions=1),
    )


async def create(bootstrap: str, names: Names, *, group: str = GROUP) -> None:
    """Create the topics of a test, and its dead-letter topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics(
            [
                NewTopic(names.source.name, names.source.partitions, 1),
                NewTopic(names.source.dead_letters(group), 1, 1),
                NewTopic(names.target.name, 1, 1),
                NewTopic(names.table.name, 1, 1, topic_configs={"cleanup.policy": "compact"}),
            ]
        )
    finally:
        await admin.close()


async def committed_on(bootstrap: str, topic: Topic[Any], group: str = GROUP) -> int:
    """The sum of a group's committed offsets, asked of the broker."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        tps = [TopicPartition(topic.name, partition) for partition in range(topic.partitions)]
        return sum([await consumer.committed(tp) or 0 for tp in tps])
    finally:
        await consumer.stop()


class InMemory:
    """The stage over MemoryBus."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.bus = MemoryBus(policy=QUICK)

    async def run(self, events: Sequence[Event | Encoded]) -> None:
        """See Stage."""
        await self.bus.publish_encoded([event.encode() if isinstance(event, Event) else event for event in events])

    async def published(self) -> list[Record[Any]]:
        """See Stage."""
        return self.bus.records(self.names.target)

    async def dead(self) -> list[DeadLetter]:
        """See Stage."""
        return self.bus.dead(self.names.source, GROUP)

    async def committed(self) -> int:
        """See Stage."""
        return self.bus.committed(self.names.source, GROUP)


class OnKafka:
    """The stage over KafkaBus and a real broker."""

    def __init__(self, bootstrap: str, names: Names, state: Path) -> None:
        self.names = names
        self.bootstrap = bootstrap
        self.bus = KafkaBus(BusSettings(bootstrap=bootstrap, state=state, policy=QUICK))
        self._sent = 0

    async def run(self, events: Sequence[Event | Encoded]) -> None:
        """See Stage."""
        encoded = [event.encode() if isinstance(event, Event) else event for event in events]
        if self.bus.ready == "the bus is not started":
            await self.bus.start()
        await self.bus.publish_encoded(encoded)
        self._sent += sum(one.topic == self.names.source.name for one in encoded)

        async with asyncio.timeout(_PATIENCE):
            while await self.committed() < self._sent and self.bus.ready is None:  # noqa: ASYNC110  the broker is asked: there is no event to wait for
                await asyncio.sleep(_EVERY)

    async def published(self) -> list[Record[Any]]:
        """See Stage."""
        async with KafkaClient(self.bootstrap) as client:
            raws = await client.backlog(self.names.target.name)
        return [record for raw in raws if isinstance(record := read(self.names.target, raw), Record)]

    async def dead(self) -> list[DeadLetter]:
        """See Stage."""
        async with KafkaClient(self.bootstrap) as client:
            raws = await client.backlog(self.names.source.dead_letters(GROUP))
        return [exhume(raw) for raw in raws if not marked(raw)]

    async def committed(self) -> int:
        """See Stage."""
        return await committed_on(self.bootstrap, self.names.source)
