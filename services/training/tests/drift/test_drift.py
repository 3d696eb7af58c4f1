"""Whether drift is seen, and nothing else taken for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anabranch import topics
from anabranch.registry.v1.loop_pb2 import LoopChanged, LoopPolicy, TrainingPolicy
from anabranch.training.v1 import events_pb2 as events
from anabranch.training.v1 import training_service_pb2 as pb
from anabranch.training.v1.training_service_pb2_grpc import TrainingServiceStub
from anabranch_artifacts import make_keys
from anabranch_bus import MemoryBus
from anabranch_rpc import connect
from anabranch_runtime import Process
from anabranch_store import Database
from anabranch_testkit import poll_until
from anabranch_training.adapters.book import SqlBook
from anabranch_training.adapters.readings import SqlReadings
from anabranch_training.application.drifting import Shown, WatchDrift
from anabranch_training.bootstrap import build, database_of
from anabranch_training.domain import RF1
from anabranch_training.domain.drift import TOPICS, Period, Reading, Signal, drifted, reading_of, topic_of
from anabranch_training.domain.runs import Policy, Recipe, Run, Trigger, due
from anabranch_training.entrypoints.kafka import encoded
from anabranch_training.entrypoints.ratings import shown_from
from anabranch_training.settings import Settings
from anabranch_training.testing import rating, ratings

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def readings(count: int, *, seed: int, dense: float = 0.6, topics_of: range = range(200)) -> list[Reading]:
    generator = np.random.default_rng(seed)
    return [
        Reading(
            topic=topic_of(str(generator.choice(topics_of))),
            numbers={
                Signal.QUERIES: (float(generator.gamma(6, 2)), float(generator.beta(6, 3))),
                Signal.SCORES: (float(generator.normal(dense, 0.1)), float(generator.normal(dense, 0.1)), 0.1),
            },
        )
        for _ in range(count)
    ]


def p_values(before: list[Reading], after: list[Reading]) -> dict[Signal, float]:
    period = Period(before)
    period.add(after)
    return dict(period.p_values)


def test_too_few_answers_on_either_side_say_nothing() -> None:
    assert p_values(readings(199, seed=1), readings(1_000, seed=2)) == {}
    assert p_values(readings(500, seed=1), readings(199, seed=2)) == {}
    assert set(p_values(readings(500, seed=1), readings(200, seed=2))) == set(Signal)


def test_a_fall_of_scores_is_seen_in_the_scores_alone() -> None:
    found = p_values(readings(500, seed=5), readings(300, seed=6) + readings(300, seed=7, dense=0.54))
    assert found[Signal.SCORES] < 0.001
    assert found[Signal.QUERIES] > 0.1
    assert drifted(found) == (Signal.SCORES, found[Signal.SCORES])


def test_other_topics_are_seen_in_the_queries_alone() -> None:
    moved = readings(300, seed=3, topics_of=range(1_000, 1_005))
    found = p_values(readings(500, seed=5), readings(300, seed=6) + moved)
    assert found[Signal.QUERIES] < 0.001
    assert found[Signal.SCORES] > 0.1


def test_what_was_seen_stays_seen_and_batches_do_not_matter() -> None:
    before, after = readings(500, seed=1), readings(400, seed=3, dense=0.5) + readings(900, seed=4)
    whole, parts = Period(before), Period(before)
    whole.add(after)
    for start in range(0, len(after), 37):
        parts.add(after[start : start + 37])
    assert parts.p_values == whole.p_values
    assert drifted(whole.p_values) is not None


def test_looks_without_drift_raise_few_alarms() -> None:
    alarms = sum(
        drifted(p_values(readings(400, seed=2 * n), readings(700, seed=2 * n + 1))) is not None for n in range(40)
    )
    # At most 2 % in truth: 4 of 40 or more would come about once in a hundred such tests.
    assert alarms < 4


def test_the_detector_is_better_than_every_dummy() -> None:
    bench = Path(__file__).parents[2] / "bench" / "drift.py"
    done = subprocess.run([sys.executable, bench, "--quick"], check=True, capture_output=True, text=True)
    scores = json.loads(done.stdout)["scores"]
    own = scores.pop("detector")
    assert own["precision"] >= 0.8
    assert own["recall"] >= 0.5
    assert all(own["f1"] > other["f1"] for other in scores.values())


def test_an_answer_is_read_from_its_features_whatever_order_it_was_shown_in() -> None:
    message = rating(1)
    first = message.cause.chunks[0]
    shown = shown_from(message)
    assert shown is not None
    assert shown.reading is not None
    assert shown.reading.topic == topic_of(first.document.document_id) < TOPICS
    assert shown.reading.numbers[Signal.SCORES][0] == max(chunk.features[0] for chunk in message.cause.chunks)
    turned = rating(1)
    del turned.cause.chunks[:]
    turned.cause.chunks.extend(reversed(message.cause.chunks))
    assert shown_from(turned) == shown
    message.cause.feature_set = "rf-0"
    assert shown_from(message) is None
    message.withdrawn = True
    assert shown_from(message) == Shown(tenant="acme", corpus="handbook", answer_id="answer-1", reading=None)


def test_features_that_are_no_numbers_are_not_read() -> None:
    assert reading_of([], []) is None
    assert reading_of(["d"], [[0.0] * 3]) is None
    assert reading_of(["d"], [[float("nan")] * len(RF1)]) is None


def test_drift_starts_a_run_only_where_the_policy_asks_for_it_and_there_is_enough() -> None:
    what = "scores have drifted"
    assert due(Policy(on_drift=True), fresh=200, usable=400, last=None, now=NOW, drift=what) == (
        Trigger.DRIFT,
        "scores have drifted, 200 new judged answers",
    )
    assert due(Policy(), fresh=200, usable=400, last=None, now=NOW, drift=what) is None
    assert due(Policy(on_drift=True), fresh=200, usable=400, last=None, now=NOW) is None
    assert due(Policy(on_drift=True), fresh=200, usable=199, last=None, now=NOW, drift=what) is None


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = database_of(database_url)
    await database.migrate()
    yield database
    await database.close()


def shown(found: list[Reading], first: int = 0) -> list[Shown]:
    return [
        Shown(tenant="t", corpus="c", answer_id=f"a{first + number}", reading=one) for number, one in enumerate(found)
    ]


async def test_a_data_set_parts_the_answers_and_a_restart_changes_nothing(database: Database) -> None:
    kept, book = SqlReadings(database), SqlBook(database, encode=encoded)
    watch = WatchDrift(readings=kept)
    before, after = readings(300, seed=1), readings(300, seed=2, dense=0.5)
    await kept.take(shown(before))
    await kept.take(shown(before[:10]))  # told again
    assert await watch.p_values("t", "c") == {}
    run = Run(
        run_id="tr-1",
        tenant="t",
        corpus="c",
        recipe=Recipe.RERANKER,
        trigger=Trigger.DRIFT,
        author="service:training",
        reason="",
        queued_at=NOW,
    )
    await book.queue(run)
    assert await kept.before("t", "c", most=200) == before[-200:]
    for start in range(0, 300, 90):
        await kept.take(shown(after[start : start + 90], first=300 + start))
        found = await watch.p_values("t", "c")
    assert drifted(found) is not None
    assert await WatchDrift(readings=SqlReadings(database)).p_values("t", "c") == found == p_values(before, after)
    assert await watch.p_values("u", "c") == {}


async def test_an_answer_whose_feedback_was_taken_back_is_forgotten(database: Database) -> None:
    kept = SqlReadings(database)
    await kept.take(shown(readings(3, seed=1)))
    await kept.take([Shown(tenant="t", corpus="c", answer_id="a1", reading=None)])
    assert [number for number, _ in await kept.since("t", "c", after=0)] == [1, 3]


@pytest.mark.connected
async def test_drift_starts_training_by_itself(tmp_path: Path) -> None:
    make_keys(tmp_path / "key", tmp_path / "key.pub")
    bus = MemoryBus()
    settings = Settings(data=tmp_path, retrieval="127.0.0.1:1", registry="127.0.0.1:1", signing_key=tmp_path / "key")
    process = Process(settings, name="training")
    await process.start(build(settings, bus=bus))
    channel = connect(process.addresses["rpc"])
    try:
        stub: Any = TrainingServiceStub(channel)
        where: dict[str, Any] = {"tenant": "acme", "corpus": "handbook"}

        async def drift() -> dict[str, float]:
            return dict((await stub.GetStatus(pb.GetStatusRequest(**where), timeout=5)).drift)

        async def runs() -> list[Any]:
            return list((await stub.ListTrainings(pb.ListTrainingsRequest(**where), timeout=5)).trainings)

        policy = LoopPolicy(training=TrainingPolicy(on_drift=True))
        await bus.deliver(topics.REGISTRY_LOOP_CHANGED, [LoopChanged(scope="*", revision=1, policy=policy)])
        await bus.deliver(topics.FEEDBACK_RATING_GIVEN, list(ratings(900))[:300])
        assert await drift() == {}
        await stub.StartTraining(pb.StartTrainingRequest(**where, author="ada"), timeout=5)
        await poll_until(lambda: bus.published(topics.TRAINING_CANDIDATE_TRAINED), deadline=60)
        usual, changed = list(ratings(900))[300:600], list(ratings(900))[600:]
        await bus.deliver(topics.FEEDBACK_RATING_GIVEN, usual)
        found = await drift()
        assert set(found) == {"queries", "scores"}
        assert min(found.values()) > 0.01
        for message in changed:
            for chunk in message.cause.chunks:
                chunk.features[0] -= 0.2
        await bus.deliver(topics.FEEDBACK_RATING_GIVEN, changed)

        async def started() -> list[Any]:
            return [run for run in await runs() if run.trigger == events.TRIGGER_DRIFT]

        (run,) = await poll_until(started, deadline=20)
        assert run.reason.startswith("scores have drifted")
    finally:
        await channel.close()
        await process.stop()
