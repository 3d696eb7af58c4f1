"""Looks at the consumers from outside, with a client of its own, and builds anew those that stand still.

aiokafka gives no sign when it no longer reads (aiokafka #1154, #1037, #625, #727), so the broker's end of every
partition is compared with where its reader stands. Three ways of standing still, three patiences:

- records wait on the broker and the reader is idle: `stalled_after` (the client is stuck, as after a broker restart);
- a batch is in hand and does not move: the subscription's `stuck_after` (the handler is stuck; stacks are dumped);
- a rebalance does not end, or commits fail: 15 s.

A partition that waits for a dependency is not stuck. While the broker is away nothing is judged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from anabranch_bus.kafka.group import Group
from anabranch_bus.kafka.lane import State
from anabranch_bus.kafka.settings import BusSettings
from anabranch_bus.kafka.tables import TableReader
from anabranch_faults import Unreachable
from anabranch_observability import gauge, get_logger
from anabranch_observability.names import bus as names

__all__ = ["Watch"]

log = get_logger()

_ANSWER_SECONDS: Final = 3.0
_UNSETTLED_SECONDS: Final = 15.0


class Watch:
    """Watches all readers of a bus."""

    def __init__(self, settings: BusSettings, groups: Sequence[Group], tables: Sequence[TableReader]) -> None:
        """Looks at nothing before `run`."""
        self._settings = settings
        self._groups = groups
        self._tables = tables
        self._client: AIOKafkaConsumer | None = None
        self._reachable_since: float | None = None
        self._behind: dict[tuple[str, TopicPartition], tuple[int, float]] = {}
        self._restarts: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Look, every `watch_every`, until cancelled."""
        try:
            while True:
                await asyncio.sleep(self._settings.watch_every.total_seconds())
                try:
                    await self._look()
                except Exception as error:
                    log.exception(names.Log.CONSUMER_FAILED, reader="watch", error=type(error).__name__)
        finally:
            for task in self._restarts.values():
                task.cancel()
            await asyncio.gather(*self._restarts.values(), return_exceptions=True)
            await self._disconnect()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._restarts = {name: task for name, task in self._restarts.items() if not task.done()}
        ends = await self._ends()
        if ends is None:
            if self._reachable_since is not None:
                log.warning(names.Log.BUS_UNREACHABLE, bootstrap=self._settings.bootstrap)
            self._reachable_since = None
            self._behind.clear()
        elif self._reachable_since is None:
            self._reachable_since = loop.time()
        for group in self._groups:
            if group.name not in self._restarts:
                await self._judge(group, ends)
        for table in self._tables:
            if table.name not in self._restarts:
                await self._judge_table(table, ends)

    async def _judge_table(self, table: TableReader, ends: dict[TopicPartition, int] | None) -> None:
        if ends is None:
            return
        now = asyncio.get_running_loop().time()
        if (why := table.reader.ails(now=now, patience=_UNSETTLED_SECONDS)) is not None:
            self._restart(table.name, table.restart(why))
        else:
            tps = table.partitions
            positions = await table.reader.positions(tps)
            if any(self._stalled(table.name, tp, positions.get(tp, -1), ends.get(tp, 0)) for tp in tps):
                self._restart(table.name, table.restart("stalled: records wait and are not read"))

    async def _judge(self, group: Group, ends: dict[TopicPartition, int] | None) -> None:
        now = asyncio.get_running_loop().time()
        hung = [
            lane
            for lane in group.lanes.values()
            if lane.state is State.HANDLING and now - lane.progressed > lane.subscription.stuck_after.total_seconds()
        ]
        if hung:
            for lane in hung:
                log.error(names.Log.CONSUMER_STUCK, group=group.name, topic=lane.tp.topic, partition=lane.tp.partition)
            self._restart(group.name, group.restart("stuck: a handler makes no progress", hung=hung))
            return
        if ends is None or self._reachable_since is None:
            return
        if (why := group.reader.ails(now=now, patience=_UNSETTLED_SECONDS)) is not None:
            self._restart(group.name, group.restart(why))
            return
        idle = [lane for lane in group.lanes.values() if lane.idle]
        positions = await group.reader.positions([lane.tp for lane in idle])
        self._measure(group, positions, ends)
        patience = self._reachable_since + _UNSETTLED_SECONDS
        committer = group.committer
        if group.revoked_at is not None:
            if now > max(patience, group.revoked_at + _UNSETTLED_SECONDS):
                self._restart(group.name, group.restart("rebalance: it does not end"))
        elif committer is not None and committer.failing_since is not None:
            if now > max(patience, committer.failing_since + _UNSETTLED_SECONDS):
                self._restart(group.name, group.restart("commits: they fail"))
        elif any(
            self._stalled(group.name, lane.tp, positions.get(lane.tp, -1), ends.get(lane.tp, 0))
            for lane in idle
            if lane.idle
        ):
            self._restart(group.name, group.restart("stalled: records wait and are not read"))

    def _stalled(self, reader: str, tp: TopicPartition, position: int, end: int) -> bool:
        """Whether the partition has stood at this position, with records beyond it, for too long."""
        key, now = (reader, tp), asyncio.get_running_loop().time()
        if position >= end:
            self._behind.pop(key, None)
            return False
        seen = self._behind.get(key)
        if seen is None or seen[0] != position:
            self._behind[key] = (position, now)
            return False
        return now - seen[1] > self._settings.stalled_after.total_seconds()

    def _measure(self, group: Group, positions: dict[TopicPartition, int], ends: dict[TopicPartition, int]) -> None:
        for lane in group.lanes.values():
            if lane.tp in ends:
                at = positions.get(lane.tp) if lane.idle else lane.position
                if at is not None:
                    lag = max(0, ends[lane.tp] - at)
                    gauge(names.LAG).labels(group.name, lane.tp.topic, str(lane.tp.partition)).set(lag)
        for topic in {lane.tp.topic for lane in group.lanes.values()}:
            gauge(names.LAG_AGE_SECONDS).labels(group.name, topic).set(_oldest(group, topic))

    def _restart(self, name: str, work: Awaitable[None]) -> None:
        self._behind = {key: seen for key, seen in self._behind.items() if key[0] != name}

        async def go() -> None:
            try:
                await work
            except Unreachable as fault:
                log.warning(names.Log.CONSUMER_FAILED, reader=name, error="Unreachable", reason=str(fault))

        self._restarts[name] = asyncio.create_task(go(), name=f"restart of {name}")

    async def _ends(self) -> dict[TopicPartition, int] | None:
        """Return the end of every partition that is read; None when the broker does not answer."""
        tps = {tp for group in self._groups for tp in group.lanes} | {tp for t in self._tables for tp in t.partitions}
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                if self._client is None:
                    client = AIOKafkaConsumer(
                        bootstrap_servers=self._settings.bootstrap,
                        client_id=f"{self._settings.client_id}-watch",
                        enable_auto_commit=False,
                    )
                    self._client = client
                    await client.start()
                found: dict[TopicPartition, int] = await self._client.end_offsets(list(tps)) if tps else {}
        except (KafkaError, OSError, TimeoutError):
            await self._disconnect()
            return None
        return found

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await client.stop()


def _oldest(group: Group, topic: str) -> float:
    times = [lane.oldest for lane in group.lanes.values() if lane.tp.topic == topic and lane.oldest is not None]
    return max(0.0, (datetime.now(UTC) - min(times)).total_seconds()) if times else 0.0
