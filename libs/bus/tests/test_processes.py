"""What holds when the process of a consumer ends, in every way it can."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_bus import Cause, DeadLetter, Event, KafkaClient
from anabranch_bus.codec import read
from anabranch_bus.dead_letters import exhume
from anabranch_bus.records import Record
from anabranch_bus.testing import GROUP, Names, committed_on, create, names_for
from anabranch_testkit import poll_until

pytestmark = pytest.mark.connected

WORKER = Path(__file__).with_name("worker.py")


class Workers:
    """Starts workers on topics of one test, and looks at what they did."""

    def __init__(self, bootstrap: str, names: Names, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.names = names
        self.effects = folder / "effects"
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, **options: float) -> subprocess.Popen[bytes]:
        given = {
            "bootstrap": self.bootstrap,
            "source": self.names.source.name,
            "target": self.names.target.name,
            "state": self.folder / "state",
            "effects": self.effects,
            "partitions": self.names.source.partitions,
            **options,
        }
        arguments = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, str(WORKER), *arguments], stdout=log, stderr=log)
        self.running.append(process)
        return process

    async def produce(self, *texts: str) -> None:
        async with KafkaClient(self.bootstrap) as client:
            await client.produce(
                Event(topic=self.names.source, message=DocumentChanged(tenant="t", text=text), key=f"t/c/{text}")
                for text in texts
            )

    def done(self) -> list[str]:
        return self.effects.read_text().splitlines() if self.effects.exists() else []

    async def committed(self) -> int:
        return await committed_on(self.bootstrap, self.names.source)

    async def published(self) -> list[str]:
        async with KafkaClient(self.bootstrap) as client:
            raws = await client.backlog(self.names.target.name)
        found = [read(self.names.target, raw) for raw in raws]
        return [record.message.caused_by for record in found if isinstance(record, Record)]

    async def dead(self) -> list[DeadLetter]:
        async with KafkaClient(self.bootstrap) as client:
            return [exhume(raw) for raw in await client.backlog(self.names.source.dead_letters(GROUP))]


@pytest.fixture
async def workers(
    kafka: str, unique: Callable[[str], str], tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Workers]:
    names = names_for(unique, partitions=getattr(request, "param", 1))
    await create(kafka, names)
    found = Workers(kafka, names, tmp_path)
    yield found
    for process in found.running:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [4], indirect=True)
async def test_kill_minus_nine_in_a_handler_loses_nothing(workers: Workers) -> None:
    texts = [f"text {n}" for n in range(1600)]
    dice = random.Random(7)  # noqa: S311  when to kill is no secret
    worker = workers.start(pace=0.03)
    await workers.produce(*texts)
    for _ in range(3):
        so_far = len(workers.done())
        await poll_until(lambda n=so_far: len(workers.done()) > n + dice.randrange(100, 300), deadline=30)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        worker.kill()
        worker.wait()
        worker = workers.start(pace=0.03)

    async def all_committed() -> bool:
        return await workers.committed() == len(texts)

    await poll_until(all_committed, deadline=40)
    counted = Counter(workers.done())
    assert set(counted) == set(texts)
    # Each kill repeats what was in hand, a batch a partition, and what was not committed yet: no more.
    assert sum(counted.values()) - len(texts) <= 3 * 4 * 2 * 64
    assert set(await workers.published()) == set(texts)
    assert await workers.dead() == []


@pytest.mark.slow
async def test_a_record_that_kills_the_process_three_times_is_dead_unread_and_its_neighbours_live(
    workers: Workers,
) -> None:
    texts = [f"text {n}" for n in range(20)]
    texts[11] = "kill"
    await workers.produce(*texts)
    for _ in range(3):
        worker = workers.start()
        assert await asyncio.to_thread(worker.wait, 20) == -signal.SIGKILL
    worker = workers.start()

    async def all_committed() -> bool:
        return await workers.committed() == len(texts)

    await poll_until(all_committed, deadline=20)
    assert worker.poll() is None
    (letter,) = await workers.dead()
    assert (letter.cause, letter.attempts, letter.offset) == (Cause.KILLED, 3, 11)
    assert DocumentChanged.FromString(letter.value).text == "kill"
    assert set(workers.done()) == set(texts) - {"kill"}


@pytest.mark.slow
async def test_a_record_of_a_large_batch_that_kills_the_process_is_dead_after_four_ends_and_its_neighbours_live(
    workers: Workers,
) -> None:
    texts = [f"text {n}" for n in range(400)]
    texts[311] = "kill"
    await workers.produce(*texts)
    for _ in range(4):
        worker = workers.start(max_records=500)
        assert await asyncio.to_thread(worker.wait, 20) == -signal.SIGKILL
    worker = workers.start(max_records=500)

    async def all_committed() -> bool:
        return await workers.committed() == len(texts)

    await poll_until(all_committed, deadline=20)
    assert worker.poll() is None
    (letter,) = await workers.dead()
    assert (letter.cause, letter.offset) == (Cause.KILLED, 311)
    assert set(workers.done()) == set(texts) - {"kill"}


@pytest.mark.slow
async def test_a_large_batch_that_was_killed_from_outside_is_soon_through(workers: Workers) -> None:
    texts = [f"text {n}" for n in range(400)]
    worker = workers.start(max_records=500, pace=0.2)
    await workers.produce("slow", *texts)
    await poll_until(lambda: "begun slow" in workers.done(), deadline=20)
    # What came while the first was handled is one batch, or two.
    await poll_until(lambda: len(workers.done()) > len(texts), deadline=20)
    worker.kill()
    worker.wait()
    before = len(workers.done())
    workers.start(max_records=500, pace=0.2)  # one by one it would take more than a minute

    async def all_committed() -> bool:
        return await workers.committed() == len(texts) + 1

    await poll_until(all_committed, deadline=20)
    again = workers.done()[before:]
    assert set(again) <= {"begun slow", "slow", *texts}
    assert await workers.dead() == []


async def test_on_sigterm_the_batch_in_hand_is_finished_and_committed_and_the_exit_is_clean(workers: Workers) -> None:
    worker = workers.start(max_records=2)
    await workers.produce("slow 1", "slow 2", "slow 3", "slow 4")
    await poll_until(lambda: "begun slow 1" in workers.done(), deadline=20)
    begun = asyncio.get_running_loop().time()
    worker.terminate()
    assert await asyncio.to_thread(worker.wait, 20) == 0
    assert asyncio.get_running_loop().time() - begun < 10
    done = [text for text in workers.done() if not text.startswith("begun")]
    assert await workers.committed() == len(done) >= 1
    assert len(done) <= 2
    assert await workers.published() == done
