"""The bus on Kafka: FastStream consumers, one client a group, lanes, one producer, a watch."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from faststream.kafka import KafkaBroker

from anabranch_bus.bus import Bus
from anabranch_bus.events import Encoded
from anabranch_bus.kafka.group import Group
from anabranch_bus.kafka.publisher import Publisher
from anabranch_bus.kafka.reader import connected_broker
from anabranch_bus.kafka.settings import BusSettings
from anabranch_bus.kafka.tables import TableReader
from anabranch_bus.kafka.watch import Watch
from anabranch_bus.marks import Gate
from anabranch_bus.subscription import Subscription
from anabranch_observability import get_logger
from anabranch_observability.names import bus as names

__all__ = ["KafkaBus"]

log = get_logger()


class KafkaBus(Bus):
    """See `Bus`. Made anywhere, started and used in one event loop."""

    def __init__(self, settings: BusSettings) -> None:
        """Connects to nothing yet."""
        super().__init__()
        self.settings = settings
        self._publisher: Publisher | None = None
        self._broker: KafkaBroker | None = None
        self._groups: list[Group] = []
        self._table_readers: list[TableReader] = []
        self._watching: asyncio.Task[None] | None = None

    async def publish_encoded(self, encoded: Sequence[Encoded]) -> None:
        """Publish, in order; return when all are acknowledged. Works without `start`. Raises Unreachable, TooLarge."""
        await self._out().publish(encoded)

    async def start(self) -> None:
        """Connect and join every group. Raises Unreachable after `start_timeout`; then nothing is left running."""
        settings, gate = self.settings, Gate()
        self._broker = await connected_broker(settings)
        by_group: dict[str, list[Subscription]] = defaultdict(list)
        for subscription in self._subscriptions:
            by_group[subscription.group].append(subscription)
        self._groups = [
            Group(
                self._broker,
                name,
                mine,
                publish=self._out().publish,
                settings=settings,
                gate=gate,
                gather=self._gathering.get(name, timedelta(0)),
            )
            for name, mine in by_group.items()
        ]
        self._table_readers = [TableReader(self._broker, table, settings) for table in self._tables]
        try:
            async with asyncio.TaskGroup() as starting:
                starting.create_task(self._out().start())
                for group in self._groups:
                    starting.create_task(group.start(deadline=settings.start_timeout))
                for table in self._table_readers:
                    starting.create_task(table.start(deadline=settings.start_timeout))
        except BaseExceptionGroup as errors:
            await self.stop()
            raise errors.exceptions[0] from errors
        self._watching = asyncio.create_task(
            Watch(settings, self._groups, self._table_readers).run(), name="watch of the bus"
        )
        log.info(names.Log.BUS_STARTED, groups=list(by_group), tables=[t.name for t in self._table_readers])

    async def stop(self) -> None:
        """Stop reading; finish what is in hand within `drain`; commit, leave, flush."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
            self._watching = None
        await asyncio.gather(
            *(group.stop(self.settings.drain) for group in self._groups),
            *(table.stop() for table in self._table_readers),
        )
        if self._broker is not None:
            await self._broker.stop()
            self._broker = None
        if self._publisher is not None:
            await self._publisher.stop()
            self._publisher = None
        log.info(names.Log.BUS_STOPPED)

    @property
    def ready(self) -> str | None:
        """Why not every handler can work: not started, not joined, a table not read, or halted."""
        if self._watching is None:
            return "the bus is not started"
        for group in self._groups:
            if group.halts:
                return next(iter(group.halts.values()))
            if not group.assigned_once:
                return f"{group.name} has not joined its group"
        for table in self._table_readers:
            if not table.caught_up:
                return f"{table.name} is not read yet"
        return None

    def _out(self) -> Publisher:
        if self._publisher is None:
            self._publisher = Publisher(self.settings)
        return self._publisher
