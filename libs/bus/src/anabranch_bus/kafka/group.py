"""A consumer group's member: one client for all topics of the group, a lane for each partition it is assigned."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from itertools import groupby
from typing import Final

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError
from faststream.kafka import KafkaBroker

from anabranch_bus.events import Encoded
from anabranch_bus.kafka.commits import Committer
from anabranch_bus.kafka.lane import Lane, Owner
from anabranch_bus.kafka.reader import Reader, Records
from anabranch_bus.kafka.settings import BusSettings
from anabranch_bus.marks import Gate
from anabranch_bus.subscription import Subscription
from anabranch_faults import Unreachable
from anabranch_observability import gauge, get_logger
from anabranch_observability.names import bus as names

__all__ = ["Group"]

log = get_logger()

_FLUSH: Final = timedelta(seconds=2)


class Group:
    """Reads the topics of one group."""

    def __init__(
        self,
        broker: KafkaBroker,
        group: str,
        subscriptions: Sequence[Subscription],
        *,
        publish: Callable[[Sequence[Encoded]], Awaitable[None]],
        settings: BusSettings,
        gate: Gate,
        gather: timedelta = timedelta(0),
    ) -> None:
        """Declares; nothing is read before `start`."""
        self.name = group
        self.lanes: dict[TopicPartition, Lane] = {}
        self.halts: dict[str, str] = {}
        self.assigned_once = False
        self.revoked_at: float | None = None
        self._subscriptions = {subscription.topic: subscription for subscription in subscriptions}
        self._settings = settings
        self._closing = False
        self._owner = Owner(
            publish=publish,
            settled=self._settled,
            full=self._full,
            room=self._room,
            halted=self._halted,
            gate=gate,
        )
        listener = _Listener(revoked=self._revoked, assigned=self._assigned)
        self.reader = Reader(
            broker,
            list(self._subscriptions),
            group=group,
            settings=settings,
            take=self._take,
            listener=listener,
            gather=gather,
        )
        self.committer: Committer | None = None

    async def start(self, *, deadline: timedelta) -> None:
        """Join the group. Raises Unreachable."""
        for topic in self._subscriptions:
            gauge(names.HALTED).labels(self.name, topic).set(0)
        self._begin()
        await self.reader.start(deadline=deadline)

    def _begin(self) -> None:
        self._closing = False
        self.committer = Committer(self.name, lambda: self.reader.client)

    async def stop(self, grace: timedelta) -> None:
        """Stop reading, finish what is in hand within `grace`, commit it, leave."""
        self._closing = True
        await self._close_lanes(grace)
        await self._end_commits(_FLUSH)
        await self.reader.stop()

    async def restart(self, reason: str, *, hung: Iterable[Lane] = ()) -> None:
        """Abandon what is in hand, uncommitted, and join again with a new client. Raises Unreachable."""
        self._closing = True
        hung = list(hung)
        if hung:
            dump_stacks(reason)
        for lane in hung:
            self.lanes.pop(lane.tp, None)
        await asyncio.gather(*(lane.hang_up() for lane in hung))
        await self._close_lanes(timedelta(0))
        await self._end_commits(timedelta(seconds=1))
        # Until the old client is gone its records must not be taken: they follow those that were abandoned above.
        await self.reader.restart(reason, between=self._begin)

    async def _end_commits(self, patience: timedelta) -> None:
        if self.committer is not None:
            if not await self.committer.flush(patience):
                log.warning(names.Log.COMMIT_REFUSED, group=self.name, error="not committed in time")
            await self.committer.close()

    async def _close_lanes(self, grace: timedelta) -> None:
        lanes, self.lanes = list(self.lanes.values()), {}
        for lane in lanes:
            # What another replica will measure must not be counted here as well.
            gauge(names.LAG).labels(self.name, lane.tp.topic, str(lane.tp.partition)).set(0)
        await asyncio.gather(*(lane.close(grace) for lane in lanes))

    async def _take(self, records: Records) -> None:
        """Hand fetched records to their lanes. What is dropped here was not committed and comes again."""
        if self._closing or self.revoked_at is not None:
            return
        for (topic, partition), of_one in groupby(records, key=lambda record: (record.topic, record.partition)):
            self._lane(TopicPartition(topic, partition)).put(list(of_one))

    def _lane(self, tp: TopicPartition) -> Lane:
        lane = self.lanes.get(tp)
        if lane is None:
            lane = self.lanes[tp] = Lane(tp, self._subscriptions[tp.topic], self._owner, self._settings)
            if tp.topic in self.halts:
                lane.halt()
                self._full(tp)
        return lane

    async def _revoked(self, revoked: set[TopicPartition]) -> None:
        """Finish or abandon, and commit, before the partitions go to another replica."""
        self.revoked_at = asyncio.get_running_loop().time()
        if revoked:
            await self._close_lanes(self._settings.revoke_grace)
            if self.committer is not None:
                await self.committer.flush(_FLUSH)
                self.committer.drop()

    async def _assigned(self, assigned: set[TopicPartition]) -> None:
        self.revoked_at = None
        self.assigned_once = True
        log.info(names.Log.ASSIGNMENT_CHANGED, group=self.name, partitions=len(assigned))
        if not self._closing:
            for tp in assigned:
                self._lane(tp)

    def _settled(self, tp: TopicPartition, offset: int) -> None:
        if self.committer is not None:
            self.committer.note(tp, offset)

    def _full(self, tp: TopicPartition) -> None:
        with contextlib.suppress(IllegalStateError, Unreachable):  # being revoked
            self.reader.client.pause(tp)

    def _room(self, tp: TopicPartition) -> None:
        with contextlib.suppress(IllegalStateError, Unreachable):  # being revoked
            self.reader.client.resume(tp)

    def _halted(self, tp: TopicPartition, reason: str) -> None:
        """Stop the whole topic: its other partitions are read by the same code."""
        sentence = f"{self.name} halted on {tp.topic}/{tp.partition}: {reason}"
        self.halts.setdefault(tp.topic, sentence)
        gauge(names.HALTED).labels(self.name, tp.topic).set(1)
        log.error(names.Log.CONSUMER_HALTED, group=self.name, topic=tp.topic, partition=tp.partition, reason=reason)
        for lane in list(self.lanes.values()):
            if lane.tp.topic == tp.topic:
                self._full(lane.tp)
                lane.halt()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(
        self,
        *,
        revoked: Callable[[set[TopicPartition]], Awaitable[None]],
        assigned: Callable[[set[TopicPartition]], Awaitable[None]],
    ) -> None:
        self._on_revoked = revoked
        self._on_assigned = assigned

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._on_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._on_assigned(assigned)


def dump_stacks(reason: str) -> None:
    """Write the stacks of all tasks and threads to standard error."""
    print(f"--- stuck: {reason}", file=sys.stderr)  # noqa: T201  a dump is no log line
    for task in asyncio.all_tasks():
        task.print_stack(limit=12, file=sys.stderr)
    if sys.__stderr__ is not None:
        with contextlib.suppress(OSError, ValueError):  # standard error is no file here
            faulthandler.dump_traceback(file=sys.__stderr__)
