"""FastStream's consumer, made to lose nothing and to wait for nothing.

What is different from FastStream's defaults, and why:

- the parser and the decoder hand on the records as fetched: FastStream's own decode headers as UTF-8 outside of every
  guard, and a batch that fails there is passed over in silence;
- acknowledgement is manual, with explicit offsets;
- an empty poll does not sleep: FastStream's batch loop otherwise waits `batch_timeout` after every empty poll, so that
  a record finds it asleep half of the time;
- an error from the client does not put the loop to sleep for 5 s.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.middlewares import AckPolicy

from anabranch_bus.kafka.settings import BusSettings
from anabranch_faults import Unreachable
from anabranch_observability import counter, get_logger
from anabranch_observability.names import bus as names

__all__ = ["Reader", "connected_broker"]

log = get_logger()

Records = tuple[ConsumerRecord[Any, Any], ...]

_POLL_MS: Final = 1_000
# An idle fetch waits this long on the broker; a partition that is resumed meanwhile waits for it to return.
_FETCH_WAIT_MS: Final = 100
# What ends the wait of a reader that gathers: several batches are there already.
_GATHERED_BYTES: Final = 512 * 1024
_ERROR_SECONDS: Final = 0.2
_STOP_SECONDS: Final = 5.0
_POSITION_SECONDS: Final = 0.2


class _Consumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
    """Polls until there is something, and counts how often there was."""

    delivered = 0
    failing_since: float | None = None

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[ConsumerRecord[Any, Any]]]:
        """Return records, at least one."""
        del timeout_ms, max_records
        while True:
            try:
                found: dict[TopicPartition, list[ConsumerRecord[Any, Any]]] = await super().getmany(
                    *partitions, timeout_ms=_POLL_MS
                )
            except KafkaError as error:
                log.warning(names.Log.CONSUMER_FAILED, error=type(error).__name__, reason=str(error))
                self.failing_since = self.failing_since or asyncio.get_running_loop().time()
                await asyncio.sleep(_ERROR_SECONDS)
                continue
            self.failing_since = None
            if found:
                self.delivered += 1
                return found


async def _as_fetched(message: Any) -> KafkaMessage:
    return KafkaMessage(body=b"", raw_message=message, headers={}, consumer=None)  # type: ignore[arg-type]  # acknowledgement goes through Reader.commit alone


async def _undecoded(message: KafkaMessage) -> Any:
    return message.raw_message


async def connected_broker(settings: BusSettings) -> KafkaBroker:
    """Return FastStream's broker for consuming: no producer, no topic creation, no decoding, no commits by itself."""
    broker = KafkaBroker(
        settings.bootstrap.split(","),
        client_id=settings.client_id,
        request_timeout_ms=_ms(settings.request_timeout),
        consumer_only=True,
        allow_auto_create_topics=False,
        apply_types=False,
        parser=_as_fetched,
        decoder=_undecoded,
        ack_policy=AckPolicy.MANUAL,
        graceful_timeout=_STOP_SECONDS,
        logger=None,
    )
    await broker.connect()
    config = broker.config.broker_config
    config.builder = partial(_Consumer, *config.builder.args, **config.builder.keywords)  # type: ignore[attr-defined]  # it is a partial
    return broker


class Reader:
    """One consumer on a broker: it can be built anew, and its client asked where it stands."""

    def __init__(
        self,
        broker: KafkaBroker,
        topics: Sequence[str],
        *,
        group: str | None,
        settings: BusSettings,
        take: Callable[[Records], Awaitable[None]],
        listener: ConsumerRebalanceListener | None = None,
        gather: timedelta = timedelta(0),
        from_now: bool = False,
    ) -> None:
        """Declares the subscriber; nothing is read before `start`. Records wait up to `gather` for company.

        `from_now` passes over what is there already.
        """
        self.name = group or ",".join(topics)
        self._settings = settings
        self._take = take
        self._subscriber = broker.subscriber(
            *topics,
            batch=True,
            group_id=group,
            auto_offset_reset="latest" if from_now else "earliest",
            ack_policy=AckPolicy.MANUAL,
            fetch_max_wait_ms=_ms(gather) or _FETCH_WAIT_MS,
            fetch_min_bytes=_GATHERED_BYTES if gather else 1,
            fetch_max_bytes=16 * 1024 * 1024,
            session_timeout_ms=_ms(settings.session_timeout),
            heartbeat_interval_ms=_ms(settings.session_timeout / 4),
            rebalance_timeout_ms=_ms(settings.revoke_grace + settings.session_timeout),
            listener=listener,
        )
        self._subscriber(self._handle)
        self._handled = 0
        self.failed: str | None = None

    @property
    def client(self) -> AIOKafkaConsumer:
        """The consumer as it is now. Raises Unreachable while there is none."""
        if self._subscriber.consumer is None:
            raise Unreachable("the consumer is not connected")
        return self._subscriber.consumer

    def ails(self, *, now: float, patience: float) -> str | None:
        """Return why the client must be built anew, None when it need not be.

        There is none, a batch got lost on its way, or polls have failed for longer than `patience` (seconds).
        """
        consumer = self._subscriber.consumer
        if consumer is None:
            return "disconnected"
        if self.failed is not None:
            return self.failed
        if consumer.failing_since is not None and now - consumer.failing_since > patience:
            return "polls: they fail"
        return None

    async def start(self, *, deadline: timedelta) -> None:
        """Connect and begin to read; try again until the deadline. Raises Unreachable."""
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline.total_seconds()
        while True:
            try:
                self._handled, self.failed = 0, None
                async with asyncio.timeout_at(end):
                    await self._subscriber.start()
            except (KafkaError, OSError, TimeoutError) as error:
                await self.stop()
                if loop.time() + _ERROR_SECONDS > end:
                    raise Unreachable(f"cannot read {self.name}: {type(error).__name__}: {error}") from error
                log.warning(names.Log.BUS_UNREACHABLE, reader=self.name, error=type(error).__name__)
                await asyncio.sleep(_ERROR_SECONDS)
            else:
                return

    async def restart(self, reason: str, *, between: Callable[[], None] = lambda: None) -> None:
        """Build the client anew; reading goes on where commits left off. Raises Unreachable.

        `between` is called when the old client has stopped and before the new one starts.
        """
        log.error(names.Log.CONSUMER_RESTARTED, reader=self.name, reason=reason)
        counter(names.RESTARTS).labels(self.name, reason.split(":", 1)[0]).inc()
        await self.stop()
        between()
        await self.start(deadline=self._settings.start_timeout)

    async def stop(self) -> None:
        """Leave the group and disconnect; a client that does not come to an end is left behind."""
        task = asyncio.ensure_future(self._subscriber.stop())
        done, _ = await asyncio.wait([task], timeout=_STOP_SECONDS)
        if not done:
            task.cancel()
            self._subscriber.consumer = None
        elif (error := task.exception()) is not None:
            self._subscriber.consumer = None
            log.warning(names.Log.CONSUMER_FAILED, error=type(error).__name__, reason=str(error))

    @property
    def up_to_date(self) -> bool:
        """Whether everything that the client delivered was taken."""
        return bool(self._handled == self.client.delivered)

    async def positions(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where the client will read on; partitions for which it does not know are left out."""
        found = {}
        for tp in tps:
            with contextlib.suppress(TimeoutError, KafkaError, IllegalStateError, Unreachable):
                async with asyncio.timeout(_POSITION_SECONDS):
                    found[tp] = int(await self.client.position(tp))
        return found

    async def _handle(self, records: Any) -> None:
        if self.failed is not None:
            return  # what follows a batch that got lost must not be taken, or it would be committed past it
        try:
            await self._take(records)
        except Exception as error:
            # FastStream would pass over the batch without a word.
            log.exception(names.Log.CONSUMER_FAILED, reader=self.name, error=type(error).__name__)
            self.failed = f"failed: {type(error).__name__}"
        else:
            self._handled += 1


def _ms(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)
