"""Publishing to Kafka: acks=all, idempotent, in order, acknowledged before anything is said to be done.

The producer is aiokafka's own: FastStream's publish takes headers as text, and dead letters carry the original bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from anabranch import topics
from anabranch_bus import tracing
from anabranch_bus.events import Encoded
from anabranch_bus.kafka.settings import BusSettings
from anabranch_faults import TooLarge, Unreachable
from anabranch_observability import counter, get_logger, histogram
from anabranch_observability.names import bus as names

__all__ = ["Publisher"]

log = get_logger()

_REQUEST_LIMIT: Final = 26 * 1024 * 1024
_BATCH: Final = 256 * 1024
_ENVELOPE: Final = 64 * 1024
_OVERHEAD: Final = 128
_STOP_SECONDS: Final = 3.0


def _limits() -> dict[str, int]:
    limits = {topic.name: topic.max_message_bytes for topic in topics.ALL}
    for topic in topics.ALL:
        for group in topic.consumers:
            limits[topic.dead_letters(group)] = topic.max_message_bytes + _ENVELOPE
    return limits


class Publisher:
    """One producer, built anew when it fails for good."""

    def __init__(self, settings: BusSettings) -> None:
        """Connects to nothing yet."""
        self._settings = settings
        self._limits = _limits()
        self._producer: AIOKafkaProducer | None = None
        self._building = asyncio.Lock()
        self._stopped = False
        # What was sent and not acknowledged when its caller gave up waiting: a second call with the same object waits
        # for the first sending instead of making another.
        self._unacknowledged: dict[int, tuple[Encoded, asyncio.Future[Any]]] = {}

    async def start(self) -> None:
        """Connect. Raises Unreachable."""
        await self._connected()

    async def publish(self, encoded: Sequence[Encoded]) -> None:
        """Return when all are acknowledged. Raises Unreachable and TooLarge; then some may have been written."""
        if not encoded:
            return
        for one in encoded:
            self._measure(one)
        loop = asyncio.get_running_loop()
        started = loop.time()
        with tracing.publishing([one.topic for one in encoded], len(encoded)):
            try:
                async with asyncio.timeout(self._settings.publish_timeout.total_seconds()):
                    producer = await self._connected()
                    futures = [await self._send(producer, one) for one in encoded]
                    # wait, unlike gather, leaves the sending alone when this task is cancelled or times out
                    await asyncio.wait(futures)
            except TimeoutError as error:
                raise Unreachable(f"the broker did not acknowledge {len(encoded)} records in time") from error
            except KafkaError as error:
                await self._failed(producer, error)
            for future in futures:
                if (refusal := future.exception()) is not None:
                    await self._failed(producer, refusal)
        histogram(names.PUBLISH_SECONDS).observe(loop.time() - started)
        for one in encoded:
            counter(names.PUBLISHED).labels(one.topic).inc()

    async def stop(self) -> None:
        """Send what is buffered and leave; gives up after some seconds."""
        self._stopped = True
        async with self._building:
            producer, self._producer = self._producer, None
        if producer is not None:
            await _close(producer)

    async def _send(self, producer: AIOKafkaProducer, one: Encoded) -> asyncio.Future[Any]:
        kept = self._unacknowledged.get(id(one))
        if kept is not None and kept[0] is one:
            return kept[1]
        future: asyncio.Future[Any] = await producer.send(
            one.topic, value=one.value, key=one.key or None, headers=list(one.headers)
        )
        self._unacknowledged[id(one)] = (one, future)
        future.add_done_callback(partial(self._forget, id(one)))
        return future

    def _forget(self, key: int, done: asyncio.Future[Any]) -> None:
        self._unacknowledged.pop(key, None)
        if not done.cancelled():
            done.exception()  # looked at, so that nobody is told that nobody looked

    def _measure(self, one: Encoded) -> None:
        limit = self._limits.get(one.topic)
        if limit is None:
            return
        size = len(one.key) + len(one.value) + _OVERHEAD
        size += sum(len(name) + len(value) + 4 for name, value in one.headers)
        if size > limit:
            raise TooLarge(f"an event for {one.topic} has {size:,} bytes; the limit is {limit:,}")

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is not None:
            return self._producer
        async with self._building:
            if self._producer is None:
                if self._stopped:
                    raise Unreachable("the bus is stopped")
                self._producer = await self._build()
            return self._producer

    async def _build(self) -> AIOKafkaProducer:
        settings = self._settings
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.bootstrap,
            client_id=settings.client_id,
            acks="all",
            enable_idempotence=True,
            max_request_size=_REQUEST_LIMIT,
            max_batch_size=_BATCH,
            request_timeout_ms=int(settings.request_timeout.total_seconds() * 1000),
        )
        try:
            await producer.start()
        except BaseException as error:
            await _close(producer)
            if isinstance(error, KafkaError | OSError):
                raise Unreachable(f"no broker at {settings.bootstrap}: {error}") from error
            raise
        return producer

    async def _failed(self, producer: AIOKafkaProducer, error: BaseException) -> None:
        """Raise what a failed sending means; build the producer anew where it cannot go on."""
        if isinstance(error, MessageSizeTooLargeError):
            problem: TooLarge | Unreachable = TooLarge(f"the broker refused a record for its size: {error}")
        else:
            problem = Unreachable(f"publishing failed: {type(error).__name__}: {error}")
        if not getattr(error, "retriable", False):
            # After a refused batch the broker waits for a sequence number that will never come.
            async with self._building:
                if self._producer is producer:
                    self._producer = None
                    self._unacknowledged.clear()
                    log.warning(names.Log.PRODUCER_RESTARTED, error=type(error).__name__)
            await _close(producer)
        raise problem from error


async def _close(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await producer.stop()
    except (TimeoutError, KafkaError, OSError):
        # The broker is away: what is unsent cannot be sent. Its callers were told that it was not acknowledged.
        await producer.client.close()
