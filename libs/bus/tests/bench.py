"""Measures the bus on a broker of its own: `.venv/bin/python libs/bus/tests/bench.py`. Not a test."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from anabranch.ingestion.v1.events_pb2 import DocumentStatusChanged
from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_bus import Batch, BusSettings, Event, KafkaBus, KafkaClient, Outcome
from anabranch_bus.testing import GROUP, Names, create, names_for
from anabranch_local.kafka import KafkaServer

COUNT = 50_000


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def event(names: Names, n: int) -> Event[DocumentChanged]:
    message = DocumentChanged(tenant="t", corpus="c", document_id=str(n), text="x" * 500)
    return Event(topic=names.source, message=message, key=f"t/c/{n}")


async def latency(bootstrap: str, folder: Path) -> None:
    names = names_for(lambda name: f"{name}-latency", partitions=6)
    await create(bootstrap, names)
    bus = KafkaBus(BusSettings(bootstrap=bootstrap, state=folder))
    arrived: dict[str, float] = {}

    @bus.subscriber(names.source, group=GROUP)
    async def on_document(batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        now = time.perf_counter()
        arrived.update((record.event_id, now) for record in batch)
        return batch.outcome()

    await bus.start()
    taken, acknowledged = [], []
    for n in range(400):
        one = event(names, n)
        sent = time.perf_counter()
        await bus.publish(one)
        acknowledged.append(time.perf_counter() - sent)
        while one.event_id not in arrived:  # noqa: ASYNC110  an event would have to be made before the id is known
            await asyncio.sleep(0.0005)
        taken.append(arrived[one.event_id] - sent)
        await asyncio.sleep(0.02)
    await bus.stop()
    for what, values in (("publish -> handler", taken), ("publish -> acknowledged", acknowledged)):
        cuts = statistics.quantiles(values[20:], n=100)
        say(f"idle, {what}: p50 {cuts[49] * 1e3:.1f} ms, p99 {cuts[98] * 1e3:.1f} ms")


async def throughput(bootstrap: str, folder: Path, *, publish: bool) -> None:
    names = names_for(lambda name: f"{name}-throughput-{publish}", partitions=6)
    await create(bootstrap, names)
    async with KafkaClient(bootstrap) as client:
        began, cpu = time.perf_counter(), time.process_time()
        await client.produce(event(names, n) for n in range(COUNT))
        took = time.perf_counter() - began
        say(f"produce: {COUNT / took:,.0f} records/s, {(time.process_time() - cpu) / COUNT * 1e6:.0f} us of CPU each")
    bus = KafkaBus(BusSettings(bootstrap=bootstrap, state=folder))
    done = asyncio.Event()
    handled = 0

    @bus.subscriber(names.source, group=GROUP)
    async def on_document(batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        nonlocal handled
        handled += len(batch)
        outcome = batch.outcome()
        if publish:
            for record in batch:
                status = DocumentStatusChanged(caused_by=record.event_id)
                outcome.publish(names.target, status, key=record.key, caused_by=record)
        if handled >= COUNT:
            done.set()
        return outcome

    await bus.start()
    began, cpu = time.perf_counter(), time.process_time()
    await done.wait()
    took, used = time.perf_counter() - began, time.process_time() - cpu
    await bus.stop()
    what = "consume and publish one each" if publish else "consume"
    say(f"{what}: {COUNT / took:,.0f} records/s, {used / COUNT * 1e6:.0f} us of CPU each")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder, KafkaServer(Path(folder) / "kafka") as server:
        await latency(server.bootstrap, Path(folder) / "state")
        await throughput(server.bootstrap, Path(folder) / "state", publish=False)
        await throughput(server.bootstrap, Path(folder) / "state", publish=True)


if __name__ == "__main__":
    asyncio.run(main())
