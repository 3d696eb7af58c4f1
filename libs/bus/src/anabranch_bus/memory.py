"""The bus without a broker, for tests: the same fates, the same bytes, no waiting."""

from __future__ import annotations

import random
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from anabranch import topics
from anabranch.topics import Topic
from anabranch_bus.bus import Bus
from anabranch_bus.codec import read
from anabranch_bus.dead_letters import DeadLetter, Death, exhume
from anabranch_bus.engine import Engine
from anabranch_bus.events import Encoded, Event
from anabranch_bus.policy import Halted, Policy
from anabranch_bus.records import Raw, Record
from anabranch_bus.rows import apply
from anabranch_bus.subscription import Subscription
from anabranch_faults import Transient, Unreachable

__all__ = ["MemoryBus"]

M = TypeVar("M", bound=Message)

_PATIENCE: Final = 100


class MemoryBus(Bus):
    """Delivers at once and in the caller's task: when `deliver` returns, every record is done or dead.

    Bytes are encoded and decoded as on the broker, records of a key stay on one partition, and what handlers publish
    is delivered to the handlers declared here. Back-offs take no time. A handler that keeps saying Overloaded or
    Unreachable makes `deliver` raise that fault after 100 pauses, with the records kept for the next `deliver`.
    """

    def __init__(self, *, policy: Policy | None = None) -> None:
        """Takes other limits than the usual."""
        super().__init__()
        self._policy = policy or Policy()
        self._logs: dict[tuple[str, int], list[Raw]] = defaultdict(list)
        self._order: dict[str, list[Raw]] = defaultdict(list)
        self._committed: dict[tuple[str, str, int], int] = defaultdict(int)
        self._engines: dict[tuple[str, str, int], tuple[Engine, _MemoryPort]] = {}
        self._table_read: dict[tuple[int, int], int] = defaultdict(int)
        self._rng = random.Random(0)  # noqa: S311  for waits, which take no time here
        self._halted: str | None = None
        self._started = False
        self._delivering = False
        self.unreachable = False
        """True makes every publication raise Unreachable, as when the broker is away."""
        self.deaths: list[tuple[Raw, Death]] = []
        """Every record that died, dead letters of dead letters included."""

    async def deliver(
        self,
        topic: Topic[Any],
        messages: Sequence[Message | Event | Raw],
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Put messages on a topic and handle them, and whatever they cause, until nothing is left.

        A message without an event gets the key its topic's manifest describes, or `key`. Raises the fault of a
        handler that stays paused; a halt is told by `ready`.
        """
        for message in messages:
            if isinstance(message, Raw):
                self._append(message.topic, message.key or b"", message.value, message.headers, message.timestamp)
                continue
            if isinstance(message, Event):
                event = message
            else:
                event = Event(topic=topic, message=message, key=key or key_of(topic, message), headers=headers or {})
            encoded = event.encode()
            self._append(encoded.topic, encoded.key, encoded.value, encoded.headers)
        await self._drain()

    async def deliver_bytes(
        self,
        topic: Topic[Any],
        value: bytes | None,
        *,
        key: bytes = b"",
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Put arbitrary bytes on a topic, as a strange producer would, and handle them."""
        self._append(topic.name, key, value, tuple(headers))
        await self._drain()

    def published(self, topic: Topic[M]) -> list[Event[M]]:
        """Return what is on the topic, delivered or published, in the order it came."""
        return [_event_of(topic, record) for record in self.records(topic)]

    def records(self, topic: Topic[M]) -> list[Record[M]]:
        """Return the readable records of the topic, in the order they came."""
        read_all = (read(topic, raw) for raw in self._order[topic.name])
        return [record for record in read_all if isinstance(record, Record)]

    def dead(self, topic: Topic[Any], group: str) -> list[DeadLetter]:
        """Return the dead letters of a group."""
        return [exhume(raw) for raw in self._order[topic.dead_letters(group)]]

    def committed(self, topic: Topic[Any], group: str) -> int:
        """Return how many records of the topic the group is done with."""
        return sum(n for (t, g, _), n in self._committed.items() if (t, g) == (topic.name, group))

    async def publish_encoded(self, encoded: Sequence[Encoded]) -> None:
        """Append to the topics; deliver to the handlers declared here unless a handler is at work already."""
        if self.unreachable:
            raise Unreachable("the broker is away")
        for one in encoded:
            self._append(one.topic, one.key, one.value, one.headers)
        if not self._delivering:
            await self._drain()

    async def start(self) -> None:
        """Read the tables and deliver what was published before."""
        self._started = True
        await self._drain()

    async def stop(self) -> None:
        """Nothing is left to do: delivery is never in the background."""
        self._started = False

    @property
    def ready(self) -> str | None:
        """Why the bus does not work: a halt."""
        return self._halted

    def _append(
        self,
        topic: str,
        key: bytes,
        value: bytes | None,
        headers: tuple[tuple[str, bytes], ...],
        timestamp: datetime | None = None,
    ) -> None:
        partition = zlib.crc32(key) % _PARTITIONS.get(topic, 1)
        log = self._logs[topic, partition]
        raw = Raw(
            topic=topic,
            partition=partition,
            offset=len(log),
            timestamp=timestamp or datetime.now(UTC),
            key=key or None,
            value=value,
            headers=headers,
        )
        log.append(raw)
        self._order[topic].append(raw)

    async def _drain(self) -> None:
        if self._delivering or self._halted is not None:
            return
        self._delivering = True
        try:
            while await self._step():
                pass
        except Halted as halt:
            self._halted = str(halt)
        except _StillPaused as paused:
            raise paused.fault from paused
        finally:
            self._delivering = False

    async def _step(self) -> bool:
        """Handle one batch of each subscription; return whether there was any."""
        worked = False
        for index, table in enumerate(self._tables):
            for (name, partition), log in list(self._logs.items()):
                if name != table.topic.name:
                    continue
                while self._table_read[index, partition] < len(log):
                    raw = log[self._table_read[index, partition]]
                    self._table_read[index, partition] += 1
                    worked = True
                    await apply(table, raw, sleep=_no_time, rng=self._rng)
        for subscription in self._subscriptions:
            for (name, partition), log in list(self._logs.items()):
                place = (name, subscription.group, partition)
                position = self._committed[place]
                if name == subscription.topic and position < len(log):
                    worked = True
                    engine, port = self._engine(place, subscription)
                    port.pauses = 0
                    await engine.settle(log[position : position + subscription.max_records])
        return worked

    def _engine(self, place: tuple[str, str, int], subscription: Subscription) -> tuple[Engine, _MemoryPort]:
        if place not in self._engines:
            port = _MemoryPort(self, place)
            engine = Engine(
                subscription,
                port,
                policy=self._policy,
                code_version="memory",
                rng=random.Random(0),  # noqa: S311  waits are not waited for
            )
            self._engines[place] = (engine, port)
        return self._engines[place]

    def _advance(self, place: tuple[str, str, int], offset: int) -> None:
        self._committed[place] = offset


class _MemoryPort:
    """What the engine sees of a MemoryBus."""

    def __init__(self, bus: MemoryBus, place: tuple[str, str, int]) -> None:
        self._bus = bus
        self._place = place
        self.pauses = 0

    async def publish(self, encoded: Sequence[Encoded]) -> None:
        await self._bus.publish_encoded(encoded)

    def advance(self, offset: int) -> None:
        self._bus._advance(self._place, offset)  # noqa: SLF001  its own bus

    async def wait(self, delay: timedelta, fault: Exception, *, paused: bool) -> None:
        del delay  # waits take no time here
        self.pauses += paused
        if self.pauses > _PATIENCE and isinstance(fault, Transient):
            raise _StillPaused(fault) from fault

    def handled(self, count: int, seconds: float) -> None:
        pass

    def died(self, raw: Raw, death: Death) -> None:
        self._bus.deaths.append((raw, death))


class _StillPaused(BaseException):
    """Carries a fault out of the engine, which would otherwise wait for ever."""

    def __init__(self, fault: Transient) -> None:
        super().__init__(str(fault))
        self.fault = fault


async def _no_time(seconds: float) -> None:
    del seconds


def key_of(topic: Topic[Any], message: Message) -> str:
    """Return the key that the topic's manifest describes, such as `<tenant>/<corpus>/<document_id>`.

    Parts are fields of the message or of its `document`; what is not found is left out.
    """
    parts = []
    for part in topic.key.strip("<>").split(">/<"):
        for holder in (message, getattr(message, "document", None)):
            value = getattr(holder, part, None) if holder is not None else None
            if isinstance(value, str) and value:
                parts.append(value)
                break
    return "/".join(parts)


def _event_of(topic: Topic[M], record: Record[M]) -> Event[M]:
    return Event(
        topic=topic,
        message=record.message,
        key=record.key,
        event_id=record.event_id,
        caused_by=record.headers.get("ce_causedby", ""),
        time=record.time,
        headers=record.headers,
    )


_PARTITIONS: Final = {topic.name: topic.partitions for topic in topics.ALL}
