"""Tables: every replica reads a compacted topic from its beginning, and goes on reading. News: from now on."""

from __future__ import annotations

import asyncio
import contextlib
import random
from datetime import timedelta

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faststream.kafka import KafkaBroker

from anabranch_bus.kafka.client import raw_of
from anabranch_bus.kafka.reader import Reader, Records
from anabranch_bus.kafka.settings import BusSettings
from anabranch_bus.rows import apply
from anabranch_bus.subscription import Table
from anabranch_faults import Unreachable
from anabranch_observability import get_logger
from anabranch_observability.names import bus as names

__all__ = ["TableReader"]

log = get_logger()

_CHECK_SECONDS = 0.02


class TableReader:
    """Reads one table."""

    def __init__(self, broker: KafkaBroker, table: Table, settings: BusSettings) -> None:
        """Declares; nothing is read before `start`."""
        self.name = table.topic.name
        self.caught_up = False
        self._table = table
        self._settings = settings
        self._rng = random.Random()  # noqa: S311  jitter, not a secret
        self.reader = Reader(
            broker, [self.name], group=None, settings=settings, take=self._take, from_now=table.gap is not None
        )
        self._catching_up: asyncio.Task[None] | None = None

    async def start(self, *, deadline: timedelta) -> None:
        """Begin to read; `caught_up` says when what was there is read. Raises Unreachable."""
        await self.reader.start(deadline=deadline)
        self._catching_up = asyncio.create_task(self._catch_up(), name=f"table {self.name}")

    async def restart(self, reason: str) -> None:
        """Read again with a new client: from the beginning, or from now on, after a gap. Raises Unreachable."""
        await self.reader.restart(reason)
        if self._table.gap is not None:
            # At once, for what was missed until now, and again when it is certain that all that follows is heard.
            await self._table.gap()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.start_timeout.total_seconds()):
                    await self._reach_the_end()
            await self._table.gap()

    async def stop(self) -> None:
        """Stop reading."""
        if self._catching_up is not None:
            self._catching_up.cancel()
            await asyncio.wait([self._catching_up])
        await self.reader.stop()

    @property
    def partitions(self) -> list[TopicPartition]:
        """What is read; empty while there is no client."""
        try:
            return list(self.reader.client.assignment())
        except Unreachable:
            return []

    async def _catch_up(self) -> None:
        records = await self._reach_the_end()
        self.caught_up = True
        log.info(names.Log.TABLE_READ, topic=self.name, records=records)

    async def _reach_the_end(self) -> int:
        ends: dict[TopicPartition, int] = {}
        while not ends:
            try:
                ends = await self.reader.client.end_offsets(self.partitions)
            except (KafkaError, Unreachable):
                await asyncio.sleep(_CHECK_SECONDS)
        while True:
            positions = await self.reader.positions(list(ends))
            if self.reader.up_to_date and all(positions.get(tp, -1) >= end for tp, end in ends.items()):
                break
            await asyncio.sleep(_CHECK_SECONDS)
        return sum(ends.values())

    async def _take(self, records: Records) -> None:
        for record in records:
            await apply(self._table, raw_of(record), sleep=asyncio.sleep, rng=self._rng)
