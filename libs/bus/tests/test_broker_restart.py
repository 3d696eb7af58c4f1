"""What holds when the broker dies and comes back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from anabranch.ingestion.v1.events_pb2 import DocumentStatusChanged
from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_bus import Batch, BusSettings, Encoded, Event, KafkaBus, KafkaClient, Outcome
from anabranch_bus.codec import read
from anabranch_bus.records import Record
from anabranch_bus.testing import GROUP, committed_on, create, names_for
from anabranch_faults import Unreachable
from anabranch_local.kafka import KafkaServer
from anabranch_testkit import poll_until

pytestmark = [pytest.mark.connected, pytest.mark.slow]

RECOVERED_WITHIN = 15.0  # on a busy test machine; libs/bus/README.md has what was measured
PARTITIONS = 6


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KafkaServer]:
    with KafkaServer(tmp_path / "kafka") as running:
        yield running


class Scene:
    """Two members that read, one producer that never stops."""

    def __init__(self, server: KafkaServer, state: Path) -> None:
        self.server = server
        self.names = names_for(lambda name: f"{name}-restart", partitions=PARTITIONS)
        self.seen: dict[str, int] = {}
        self.acknowledged: list[str] = []
        self.over = False
        self._settings = BusSettings(bootstrap=server.bootstrap, state=state)
        self.members = [self._member(), self._member()]

    def _member(self) -> KafkaBus:
        bus = KafkaBus(self._settings)

        async def handler(batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
            outcome = batch.outcome()
            for record in batch:
                self.seen[record.message.text] = record.partition
                status = DocumentStatusChanged(caused_by=record.message.text)
                outcome.publish(self.names.target, status, key=record.key, caused_by=record)
            return outcome

        bus.subscriber(self.names.source, group=GROUP)(handler)
        return bus

    async def produce(self) -> None:
        while not self.over:
            text = str(len(self.acknowledged))
            message = DocumentChanged(tenant="t", text=text)
            encoded = Event(topic=self.names.source, message=message, key=text).encode()
            while not await _acknowledged(self.members[0], encoded):
                pass
            self.acknowledged.append(text)
            await asyncio.sleep(0.005)

    async def crash_and_return(self) -> tuple[float, float]:
        """Return how long after the broker's return it took its first new record, and each partition was read."""
        await asyncio.to_thread(self.server.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(self.server.start)
        loop = asyncio.get_running_loop()
        back, known = loop.time(), len(self.acknowledged)
        await poll_until(lambda: len(self.acknowledged) > known, deadline=RECOVERED_WITHIN)
        first = loop.time() - back

        def all_read() -> bool:
            return len({self.seen[text] for text in self.acknowledged[known:] if text in self.seen}) == PARTITIONS

        await poll_until(all_read, deadline=RECOVERED_WITHIN, what="every partition read again")
        return first, loop.time() - back

    async def all_committed(self) -> bool:
        async with KafkaClient(self.server.bootstrap) as client:
            total = len(await client.backlog(self.names.source.name))
        return await committed_on(self.server.bootstrap, self.names.source) == total

    async def published(self) -> set[str]:
        async with KafkaClient(self.server.bootstrap) as client:
            raws = await client.backlog(self.names.target.name)
        return {r.message.caused_by for raw in raws if isinstance(r := read(self.names.target, raw), Record)}


async def _acknowledged(bus: KafkaBus, encoded: Encoded) -> bool:
    try:
        await bus.publish_encoded([encoded])
    except Unreachable:
        await asyncio.sleep(0.05)
        return False
    return True


async def test_after_the_broker_was_killed_every_partition_is_read_again_soon_and_nothing_is_lost(
    server: KafkaServer, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    scene = Scene(server, tmp_path / "state")
    await create(server.bootstrap, scene.names)
    await asyncio.gather(*(bus.start() for bus in scene.members))
    producing = asyncio.create_task(scene.produce())
    for _ in range(2):
        enough = len(scene.seen) + 100
        await poll_until(lambda n=enough: len(scene.seen) > n, deadline=20)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        first, every = await scene.crash_and_return()
        record_property("seconds to the first record and to every partition", (first, every))
        sys.stdout.write(f"first record after {first:.2f} s, every partition after {every:.2f} s\n")
    scene.over = True
    await producing
    await poll_until(lambda: set(scene.acknowledged) <= set(scene.seen), deadline=RECOVERED_WITHIN)
    await poll_until(scene.all_committed, deadline=RECOVERED_WITHIN)
    await asyncio.gather(*(bus.stop() for bus in scene.members))
    assert set(scene.acknowledged) <= await scene.published()


async def test_while_the_broker_is_away_publishing_says_so_and_works_again_after(server: KafkaServer) -> None:
    names = names_for(lambda name: f"{name}-away")
    await create(server.bootstrap, names)
    settings = BusSettings(bootstrap=server.bootstrap)
    bus = KafkaBus(replace(settings, publish_timeout=settings.publish_timeout / 10))
    event = Event(topic=names.source, message=DocumentChanged(tenant="t", text="a"), key="a")
    encoded = event.encode()
    await bus.publish(event)
    await asyncio.to_thread(server.kill)
    with pytest.raises(Unreachable):
        await bus.publish_encoded([encoded])
    with pytest.raises(Unreachable):
        await bus.publish_encoded([encoded])
    await asyncio.to_thread(server.start)
    await poll_until(lambda: _acknowledged(bus, encoded), deadline=RECOVERED_WITHIN)
    await bus.stop()
    async with KafkaClient(server.bootstrap) as client:
        assert len(await client.backlog(names.source.name)) == 2
