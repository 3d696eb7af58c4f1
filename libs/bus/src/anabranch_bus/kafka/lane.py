"""One partition at work: takes fetched records, cuts batches, lets the engine settle them, says what to commit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final

from aiokafka import ConsumerRecord, TopicPartition

from anabranch_bus.dead_letters import Death
from anabranch_bus.engine import Engine
from anabranch_bus.events import Encoded
from anabranch_bus.kafka.client import raw_of
from anabranch_bus.kafka.settings import BusSettings
from anabranch_bus.marks import Gate, Mark, Marks
from anabranch_bus.policy import Halted
from anabranch_bus.records import Raw
from anabranch_bus.subscription import Subscription
from anabranch_observability import counter, gauge, get_logger, histogram
from anabranch_observability.names import bus as names

__all__ = ["Lane", "Owner", "State"]

log = get_logger()

_ENVELOPE: Final = 100


class State(Enum):
    """What a lane is doing."""

    IDLE = "idle"
    HANDLING = "handling"
    BACKING_OFF = "backing off"
    PAUSED = "paused"
    HALTED = "halted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """What a lane needs of the consumer it belongs to."""

    publish: Callable[[Sequence[Encoded]], Awaitable[None]]
    settled: Callable[[TopicPartition, int], None]
    full: Callable[[TopicPartition], None]
    room: Callable[[TopicPartition], None]
    halted: Callable[[TopicPartition, str], None]
    gate: Gate


class Lane:
    """Lives from the assignment of its partition to the revocation."""

    def __init__(self, tp: TopicPartition, subscription: Subscription, owner: Owner, settings: BusSettings) -> None:
        """Starts working when records are put in."""
        self.tp = tp
        self.subscription = subscription
        self.state = State.IDLE
        self.position: int | None = None
        self.oldest: datetime | None = None
        self._owner = owner
        self._settings = settings
        self._queue: deque[ConsumerRecord[Any, Any]] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._is_full = False
        self._paused = False
        self._halting = False
        self._closing = False
        self._closed = False
        self._busy_until = 0.0
        self._last_batch = 0
        self._loop = asyncio.get_running_loop()
        self.progressed = self._loop.time()
        self._labels = (subscription.group, subscription.topic)
        self._marks = Marks(settings.state, group=subscription.group, topic=tp.topic, partition=tp.partition)
        self._suspected = self._marks.found
        self._engine = Engine(subscription, self, policy=settings.policy, code_version=settings.code_version)
        if self._suspected is not None:
            log.warning(
                names.Log.RECORD_SUSPECTED, topic=tp.topic, partition=tp.partition, offset=self._suspected.first
            )
        self._task = asyncio.create_task(self._run(), name=f"lane {subscription.group} {tp.topic}/{tp.partition}")

    @property
    def idle(self) -> bool:
        """Whether it waits for records."""
        return self.state is State.IDLE and not self._queue

    def put(self, records: Sequence[ConsumerRecord[Any, Any]]) -> None:
        """Take records that were fetched, in order."""
        if self._closing or self._halting or self.state is State.HALTED:
            return
        if self.position is None:
            self.position = records[0].offset
        self._queue.extend(records)
        self._bytes += sum(map(_size, records))
        settings = self._settings
        if self._bytes > settings.max_buffer_bytes or len(self._queue) > settings.max_buffer_records:
            self._is_full = True
            self._owner.full(self.tp)
        self._arrived.set()

    def halt(self) -> None:
        """Take nothing more; what is in hand is finished."""
        self._halting = True
        self._queue.clear()
        self._arrived.set()
        if self.state is State.IDLE:
            self.state = State.HALTED

    async def close(self, grace: timedelta) -> None:
        """Finish the batch in hand if that takes no longer than `grace`; abandon it otherwise, uncommitted."""
        self._closing = True
        self._queue.clear()
        self._arrived.set()
        if self.state is State.HANDLING and grace:
            await asyncio.wait([self._task], timeout=grace.total_seconds())
        if not self._task.done() and self.state is State.HANDLING:
            log.warning(names.Log.DRAIN_ABANDONED, topic=self.tp.topic, partition=self.tp.partition)
        await self._end()
        self._marks.clear()
        self._marks.close()

    async def hang_up(self) -> None:
        """End a batch that makes no progress. Its mark stays: it counts like the end of the process."""
        self._closing = True
        await self._end()
        self._marks.close()

    async def _end(self) -> None:
        self._closed = True
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=2)
        self._resume()
        self.state = State.IDLE

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            gauge(names.PAUSED).labels(*self._labels).dec()
            log.info(names.Log.PARTITION_RESUMED, **self._where())

    # What the engine asks of its transport

    async def publish(self, encoded: Sequence[Encoded]) -> None:
        """Publish, unless this lane was abandoned: a handler may outlive its cancellation."""
        if self._closed:
            raise asyncio.CancelledError
        await self._owner.publish(encoded)

    def advance(self, offset: int) -> None:
        """Everything below `offset` may be committed."""
        if not self._closed:
            self._resume()
            self.position = offset
            self.progressed = self._loop.time()
            self._owner.settled(self.tp, offset)

    async def wait(self, delay: timedelta, fault: Exception, *, paused: bool) -> None:
        """Back off, or pause until a dependency may be back."""
        if paused:
            if not self._paused:
                self._paused = True
                gauge(names.PAUSED).labels(*self._labels).inc()
                log.warning(names.Log.PARTITION_PAUSED, **self._where(), error=str(fault))
            self.state = State.PAUSED
        else:
            self._resume()
            counter(names.RETRIES).labels(*self._labels).inc()
            log.info(names.Log.HANDLER_FAILED, **self._where(), error=type(fault).__name__, reason=str(fault))
            self.state = State.BACKING_OFF
        await asyncio.sleep(delay.total_seconds())
        self.progressed = self._loop.time()
        self.state = State.HANDLING

    def handled(self, count: int, seconds: float) -> None:
        """Count a call of the handler."""
        counter(names.HANDLED).labels(*self._labels).inc(count)
        histogram(names.HANDLING_SECONDS).labels(*self._labels).observe(seconds)

    def died(self, raw: Raw, death: Death) -> None:
        """Tell of a dead letter."""
        counter(names.DEAD_LETTERS).labels(*self._labels, death.cause.value).inc()
        log.warning(
            names.Log.RECORD_DIED,
            **self._where(),
            offset=raw.offset,
            cause=death.cause.value,
            error=death.error,
            reason=death.reason,
        )

    async def _run(self) -> None:
        while not self._closing and not self._halting:
            if not self._queue:
                self.oldest = None
                self._arrived.clear()
                await self._arrived.wait()
                self.progressed = self._loop.time()
                continue
            if self._worth_waiting():
                await self._linger()
                continue
            batch = self._cut()
            self.state = State.HANDLING
            try:
                await self._settle(batch)
            except Halted as halt:
                self._marks.clear()
                self.state = State.HALTED
                self._owner.halted(self.tp, str(halt))
                return
            except Exception as error:
                # The engine has a fate for whatever a handler raises; this is the bus itself. Going on would skip.
                log.exception(names.Log.CONSUMER_FAILED, **self._where(), error=type(error).__name__)
                self._owner.halted(self.tp, f"the bus failed: {error!r}")
                return
            self._marks.clear()
            self._busy_until, self._last_batch = self._loop.time(), len(batch)
            self.state = State.IDLE
        if self._halting:
            self.state = State.HALTED

    async def _settle(self, batch: list[Raw]) -> None:
        suspected, first, last = self._suspected, batch[0].offset, batch[-1].offset
        histogram(names.WAITED_SECONDS).labels(*self._labels).observe(
            max(0.0, (datetime.now(UTC) - batch[0].timestamp).total_seconds())
        )
        if suspected is None:
            async with self._owner.gate.enter(alone=False):
                self._marks.begin(Mark(first=first, last=last, times=1))
                return await self._engine.settle(batch)
        ends = self._settings.ends_before_dead
        if suspected.times >= ends and suspected.alone and first == suspected.first:
            await self._engine.settle_unread(batch[0], times=suspected.times)
        else:
            async with self._owner.gate.enter(alone=suspected.times > 1):
                self._marks.begin(suspected.over(first, last))
                await self._engine.settle(batch)
        return None

    def _cut(self) -> list[Raw]:
        if self._suspected is not None and self._queue[0].offset > self._suspected.last:
            self._suspected = None
        suspected, most = self._suspected, self.subscription.max_records
        if suspected is not None:
            # No piece reaches past the suspects: their neighbours are not to be slowed down with them.
            most = min(most, suspected.piece, suspected.last - self._queue[0].offset + 1)
        batch: list[Raw] = []
        size = 0
        while self._queue and len(batch) < most:
            record = self._queue[0]
            size += _size(record)
            if batch and size > self._settings.max_batch_bytes:
                break
            self._queue.popleft()
            self._bytes -= _size(record)
            batch.append(raw_of(record))
        self.oldest = batch[0].timestamp
        half = self._settings.max_buffer_bytes // 2, self._settings.max_buffer_records // 2
        if self._is_full and self._bytes <= half[0] and len(self._queue) <= half[1]:
            self._is_full = False
            self._owner.room(self.tp)
        return batch

    def _worth_waiting(self) -> bool:
        """Whether company is likely: the lane was busy a moment ago, with more than one record."""
        wait = self.subscription.max_wait.total_seconds()
        if self._loop.time() - self._busy_until >= wait:
            return False
        return self._last_batch > 1 and len(self._queue) < self.subscription.max_records

    async def _linger(self) -> None:
        deadline = self._busy_until + self.subscription.max_wait.total_seconds()
        while len(self._queue) < self.subscription.max_records and not self._closing:
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._arrived.wait()
            except TimeoutError:
                return

    def _where(self) -> dict[str, object]:
        return {"group": self.subscription.group, "topic": self.tp.topic, "partition": self.tp.partition}


def _size(record: ConsumerRecord[Any, Any]) -> int:
    size: int = max(record.serialized_value_size, 0) + max(record.serialized_key_size, 0) + _ENVELOPE
    return size
