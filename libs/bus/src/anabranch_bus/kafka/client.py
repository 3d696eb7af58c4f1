"""Kafka for tools: produce many events, follow a topic from its present end. No groups, no handlers, no commits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from google.protobuf.message import Message

from anabranch.topics import Topic
from anabranch_bus.codec import read
from anabranch_bus.events import Encoded, Event
from anabranch_bus.kafka.publisher import Publisher
from anabranch_bus.kafka.settings import BusSettings
from anabranch_bus.records import Raw, Record
from anabranch_faults import Unreachable

__all__ = ["KafkaClient", "raw_of"]

M = TypeVar("M", bound=Message)

_CHUNK_EVENTS: Final = 500
_CHUNK_BYTES: Final = 4 * 1024 * 1024
_POLL_MS: Final = 1_000
_PATIENCE: Final = timedelta(seconds=15)


class KafkaClient:
    """Used as `async with`; raises Unreachable when the broker does not answer."""

    def __init__(self, bootstrap: str, *, client_id: str = "anabranch-tool") -> None:
        """Takes the broker's `host:port`; connects when entered."""
        self.settings = BusSettings(bootstrap=bootstrap, client_id=client_id)
        self._publisher = Publisher(self.settings)

    async def __aenter__(self) -> Self:
        """Connect. Raises Unreachable."""
        await self._publisher.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what is buffered and disconnect."""
        await self._publisher.stop()

    async def produce(self, events: Iterable[Event[Any]], *, progress: Callable[[int], None] = lambda _: None) -> int:
        """Publish all, in order, without holding more than a few MiB; return how many.

        `progress` is told how many are acknowledged so far, after every few hundred. Raises Unreachable, TooLarge.
        """
        total, size, chunk = 0, 0, list[Encoded]()
        for event in events:
            encoded = event.encode()
            chunk.append(encoded)
            size += len(encoded.value)
            if len(chunk) >= _CHUNK_EVENTS or size >= _CHUNK_BYTES:
                await self._publisher.publish(chunk)
                total += len(chunk)
                size, chunk = 0, []
                progress(total)
        if chunk:
            await self._publisher.publish(chunk)
            total += len(chunk)
            progress(total)
        return total

    async def publish(self, encoded: Encoded) -> None:
        """Publish one event that is encoded. Raises Unreachable, TooLarge."""
        await self._publisher.publish([encoded])

    @asynccontextmanager
    async def follow(self, topic: Topic[M]) -> AsyncIterator[AsyncIterator[Record[M]]]:
        """Read what comes onto the topic from now on.

        The position is fixed when the block is entered: what is produced inside of it is seen. Records that cannot
        be read are passed over. Raises Unreachable.
        """
        async with self.consumer(topic.name) as consumer:
            _seek(consumer, await consumer.end_offsets(list(consumer.assignment())))
            yield self._readable(topic, consumer)

    @asynccontextmanager
    async def consumer(self, *names: str) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer of every partition of these topics, from their beginning. Raises Unreachable."""
        consumer = AIOKafkaConsumer(
            *names,
            bootstrap_servers=self.settings.bootstrap,
            client_id=self.settings.client_id,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
            request_timeout_ms=int(self.settings.request_timeout.total_seconds() * 1000),
        )
        try:
            async with asyncio.timeout(_PATIENCE.total_seconds()):
                await consumer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await consumer.stop()
            raise Unreachable(f"cannot read {', '.join(names)}: {type(error).__name__}: {error}") from error
        try:
            yield consumer
        finally:
            await consumer.stop()

    async def backlog(self, name: str, *, starts: Mapping[TopicPartition, int] | None = None) -> list[Raw]:
        """Return everything a topic holds now, oldest first; of `starts`, only those partitions, from there.

        Raises Unreachable.
        """
        async with self.consumer(name) as consumer:
            tps = list(starts or consumer.assignment())
            ends = await consumer.end_offsets(tps)
            _seek(consumer, starts or await consumer.beginning_offsets(tps))
            found: list[Raw] = []
            while True:
                positions = {tp: await consumer.position(tp) for tp in tps}
                if all(positions[tp] >= ends[tp] for tp in tps):
                    return sorted(found, key=lambda raw: (raw.timestamp, raw.partition, raw.offset))
                for records in (await consumer.getmany(*tps, timeout_ms=_POLL_MS)).values():
                    found += [raw_of(record) for record in records]

    async def _readable(self, topic: Topic[M], consumer: AIOKafkaConsumer) -> AsyncIterator[Record[M]]:
        while True:
            try:
                fetched = await consumer.getmany(timeout_ms=_POLL_MS)
            except KafkaError as error:
                raise Unreachable(f"cannot read {topic.name}: {error}") from error
            for records in fetched.values():
                for record in records:
                    readable = read(topic, raw_of(record))
                    if isinstance(readable, Record):
                        yield readable


def raw_of(record: ConsumerRecord[Any, Any]) -> Raw:
    """Return aiokafka's record as ours."""
    return Raw(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=datetime.fromtimestamp(record.timestamp / 1000, UTC),
        key=record.key,
        value=record.value,
        headers=record.headers,
    )


def _seek(consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> None:
    for tp, offset in offsets.items():
        consumer.seek(tp, offset)
