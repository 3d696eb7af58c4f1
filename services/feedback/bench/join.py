"""How fast feedback goes through Kafka to a joined record, as JSON: `python services/feedback/bench/join.py`.

A broker and the service, as a process, are started for it. Answers are recorded first; then feedback is on the topic
before the service, which was stopped, starts again: measured from its first RatingGiven to its last, on the output
topic, and by the processor time of the service's process. `--kill N` kills the service (SIGKILL) N times while it
works, and counts what was lost and what came under two event ids. `--give N` measures N calls of Give, one after
another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from anabranch import topics
from anabranch.feedback.v1 import feedback_service_pb2 as pb
from anabranch.feedback.v1.events_pb2 import RatingGiven
from anabranch.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from anabranch.upstream.v1.feedback_pb2 import CitationJudgment, FeedbackGiven, Rating, Thumb
from anabranch_bus import Event
from anabranch_feedback.testing import feedback, new_answer_id, served
from anabranch_local.kafka import KafkaServer
from anabranch_local.provisioning import provision
from anabranch_rpc import connect
from anabranch_testkit import poll_until

_TENANT: Final = "bench"
_PASSAGES: Final = 5
_FEATURES: Final = 16
_USERS: Final = 1_000


class Told:
    """What came out: the event ids by feedback and revision, and when the first and the last came."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.ids: dict[tuple[str, int], set[str]] = {}
        self.records = 0
        self.first = self.last = 0.0

    async def read(self, consumer: AIOKafkaConsumer) -> None:
        """Take what is there."""
        for records in (await consumer.getmany(timeout_ms=100, max_records=5_000)).values():
            for record in records:
                message = RatingGiven.FromString(record.value)
                event_id = dict(record.headers)["ce_id"].decode()
                self.ids.setdefault((message.feedback_id, message.revision), set()).add(event_id)
                self.records += 1
                # The producer's own time: how fast this program reads does not count.
                at = record.timestamp / 1_000
                self.first = min(self.first or at, at)
                self.last = max(self.last, at)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="join", description=__doc__)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--answers", type=int, default=2_000)
    parser.add_argument("--kill", type=int, default=0, help="times the service is killed")
    parser.add_argument("--give", type=int, default=0, help="calls of Give instead")
    parser.add_argument("--database", default="", help="url; empty: SQLite")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ab-join-") as folder, KafkaServer(Path(folder) / "kafka") as server:
        asyncio.run(provision(server.bootstrap))
        bench = Bench(server.bootstrap, Path(folder), arguments)
        result = asyncio.run(bench.give() if arguments.give else bench.join())
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")


class Bench:
    """One measurement."""

    def __init__(self, kafka: str, folder: Path, arguments: argparse.Namespace) -> None:
        """Takes a broker with topics, and a folder."""
        self._kafka = kafka
        self._folder = folder
        self._events: int = arguments.events
        self._kills: int = arguments.kill
        self._calls: int = arguments.give
        self._database: str = arguments.database
        self._answers = [new_answer_id() for _ in range(arguments.answers)]
        self._rng = random.Random(arguments.seed)  # noqa: S311  data, not a secret

    async def join(self) -> dict[str, Any]:
        """Feedback through Kafka."""
        told = Told()
        async with self._clients() as (producer, consumer):
            await self._send(producer, self._records())
            async with self._service() as running:
                await self._recorded(running)
            began = time.perf_counter()
            await self._send(producer, self._feedback())
            produced = time.perf_counter() - began
            began, busy = time.perf_counter(), _busy()
            if self._kills:
                await self._killed(told, consumer)
            async with self._service():
                await self._all(told, consumer)
            seconds, processor = told.last - told.first, _busy() - busy
        return {
            "events": self._events,
            "joined": len(told.ids),
            "lost": self._events - len(told.ids),
            "counted_twice": sum(len(ids) > 1 for ids in told.ids.values()),
            "published_again": told.records - len(told.ids),
            "kills": self._kills,
            "seconds": round(seconds, 2),
            "events_per_second": round(self._events / seconds) if seconds else 0,
            "processor_seconds": round(processor, 2),
            "events_per_processor_second": round(self._events / processor),
            "producing_seconds": round(produced, 2),
            "with_start_seconds": round(time.perf_counter() - began, 2),
        }

    async def give(self) -> dict[str, Any]:
        """Calls, one after another."""
        milliseconds: list[float] = []
        async with self._clients() as (producer, _):
            await self._send(producer, self._records())
            async with self._service() as running:
                await self._recorded(running)
                channel = connect(running.address)
                stub: Any = FeedbackServiceStub(channel)
                for n in range(self._calls):
                    began = time.perf_counter()
                    await stub.Give(pb.GiveRequest(given=self._one(n)), timeout=10)
                    milliseconds.append(1_000 * (time.perf_counter() - began))
                await channel.close()
        milliseconds.sort()
        return {
            "calls": self._calls,
            "p50_ms": round(milliseconds[len(milliseconds) // 2], 2),
            "p99_ms": round(milliseconds[int(len(milliseconds) * 0.99)], 2),
        }

    async def _killed(self, told: Told, consumer: AIOKafkaConsumer) -> None:
        """Starts the service and kills it at a moment of its work, again and again."""
        for n in range(1, self._kills + 1):
            async with self._service(quick=True) as running:
                goal = min(self._events - 1, self._events * n // (self._kills + 1))
                while len(told.ids) < goal:
                    await told.read(consumer)
                await asyncio.sleep(self._rng.uniform(0, 0.1))
                running.process.kill()
                await running.process.wait()

    async def _all(self, told: Told, consumer: AIOKafkaConsumer) -> None:
        quiet_since, before = time.perf_counter(), told.records
        while len(told.ids) < self._events or time.perf_counter() - quiet_since < 1:
            await told.read(consumer)
            if told.records != before:
                quiet_since, before = time.perf_counter(), told.records
            if time.perf_counter() - quiet_since > 60:  # noqa: PLR2004  nothing more will come
                return

    def _records(self) -> list[Event[Any]]:
        features = {"features": [self._rng.random() for _ in range(_FEATURES)]}
        events: list[Event[Any]] = []
        for answer_id in self._answers:
            message = served(answer_id, tenant=_TENANT, passages=_PASSAGES)
            for passage in message.passages:
                del passage.features[:]
                passage.features.extend(features["features"])
                passage.text = "Words of a passage that was shown. " * 20
            events.append(Event(topic=topics.GATEWAY_ANSWER_SERVED, message=message, key=f"{_TENANT}/{answer_id}"))
        return events

    def _feedback(self) -> list[Event[Any]]:
        messages = (self._one(n) for n in range(self._events))
        return [
            Event(topic=topics.UPSTREAM_FEEDBACK_GIVEN, message=one, key=f"{_TENANT}/{one.answer_id}")
            for one in messages
        ]

    def _one(self, n: int) -> FeedbackGiven:
        """Feedback in a slot of its own: a mix of kinds, one in ten with words."""
        answer_id = self._answers[n % len(self._answers)]
        user_id = f"u{n // len(self._answers)}-{n % _USERS}"
        match n % 3:
            case 0:
                kind: dict[str, Any] = {"thumb": Thumb(up=n % 2 == 0)}
            case 1:
                kind = {"citation": CitationJudgment(chunk_id=f"c{1 + n % _PASSAGES}", relevant=True)}
            case _:
                kind = {"rating": Rating(stars=1 + n % 5, reasons=["outdated"])}
        words = {"comment": "Not what I asked for, see page 12 of the manual."} if n % 10 == 0 else {}
        return feedback(answer_id, tenant=_TENANT, user_id=user_id, **kind, **words)

    async def _send(self, producer: AIOKafkaProducer, events: Sequence[Event[Any]]) -> None:
        for event in events:
            one = event.encode()
            await producer.send(one.topic, one.value, key=one.key, headers=list(one.headers))
        await producer.flush()

    async def _recorded(self, running: Running) -> None:
        """Waits until the answers' records are stored."""
        channel = connect(running.address)
        stub: Any = FeedbackServiceStub(channel)
        wanted, size = len(self._answers), min(1_000, len(self._answers))
        found = 0
        while found < wanted:
            found, token = 0, ""
            while True:
                request = pb.ListAnswersRequest(tenant=_TENANT, page_size=size, page_token=token)
                page = await stub.ListAnswers(request, timeout=30)
                found, token = found + len(page.answers), page.next_page_token
                if not token:
                    break
            await asyncio.sleep(0.2)
        await channel.close()

    @asynccontextmanager
    async def _clients(self) -> AsyncIterator[tuple[AIOKafkaProducer, AIOKafkaConsumer]]:
        producer = AIOKafkaProducer(bootstrap_servers=self._kafka, linger_ms=5, max_batch_size=1 << 18)
        consumer = AIOKafkaConsumer(
            topics.FEEDBACK_RATING_GIVEN.name, bootstrap_servers=self._kafka, auto_offset_reset="earliest"
        )
        await producer.start()
        await consumer.start()
        try:
            yield producer, consumer
        finally:
            await producer.stop()
            await consumer.stop()

    @asynccontextmanager
    async def _service(self, *, quick: bool = False) -> AsyncIterator[Running]:
        addresses = self._folder / f"addresses-{uuid4()}.json"
        given = {
            "KAFKA": self._kafka,
            "DATA": str(self._folder / "data"),
            "ADDRESS_FILE": str(addresses),
            "DATABASE": self._database,
            "RATE": "0",
            "LOG_LEVEL": "warning",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "anabranch_feedback",
            env={**os.environ, **{f"ANABRANCH_FEEDBACK_{name}": value for name, value in given.items()}},
            stdout=sys.stderr,
        )
        try:
            await poll_until(addresses.exists, deadline=60)
            yield Running(process, json.loads(addresses.read_text())["rpc"])
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL if quick else signal.SIGTERM)
                await process.wait()


def _busy() -> float:
    """Processor seconds of the services that have ended, their starts included; the broker is still running."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Running:
    """The service's process, and where it answers."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        """Takes both."""
        self.process = process
        self.address = address


if __name__ == "__main__":
    main()
