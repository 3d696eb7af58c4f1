"""A consumer in a process of its own, for tests that kill it: appends each record's text to a file.

What a text begins with is what happens: `kill` ends the process in the handler, `slow` takes a while.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from anabranch import topics
from anabranch.ingestion.v1.events_pb2 import DocumentStatusChanged
from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_bus import Batch, BusSettings, KafkaBus, Outcome
from anabranch_bus.testing import GROUP


async def work(options: argparse.Namespace) -> None:
    source = replace(topics.UPSTREAM_DOCUMENT_CHANGED, name=options.source, partitions=options.partitions)
    target = replace(topics.INGESTION_DOCUMENT_STATUS, name=options.target)
    settings = BusSettings(bootstrap=options.bootstrap, state=options.state, session_timeout=timedelta(seconds=2))
    bus = KafkaBus(settings)
    effects = os.open(options.effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    @bus.subscriber(source, group=GROUP, max_records=options.max_records)
    async def on_document(batch: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        outcome = batch.outcome()
        for record in batch:
            text = record.message.text
            if text.startswith("kill"):
                os.kill(os.getpid(), signal.SIGKILL)
            if text.startswith("slow"):
                os.write(effects, f"begun {text}\n".encode())
                await asyncio.sleep(1)
            os.write(effects, f"{text}\n".encode())
            outcome.publish(target, DocumentStatusChanged(caused_by=text), key=record.key, caused_by=record)
        await asyncio.sleep(options.pace)
        return outcome

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await bus.start()
    await stop.wait()
    await bus.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "source", "target"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("state", "effects"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--max-records", type=int, default=64)
    parser.add_argument("--pace", type=float, default=0.0)
    asyncio.run(work(parser.parse_args()))
