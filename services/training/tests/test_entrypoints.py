from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from anabranch import topics
from anabranch.feedback.v1.events_pb2 import RatingGiven
from anabranch.registry.v1.loop_pb2 import LoopChanged, LoopPolicy, TrainingPolicy
from anabranch.training.v1 import training_service_pb2 as pb
from anabranch.training.v1.training_service_pb2_grpc import TrainingServiceStub
from anabranch_artifacts import ArtifactStore, make_keys
from anabranch_bus import MemoryBus
from anabranch_rpc import connect
from anabranch_runtime import Process
from anabranch_testkit import poll_until
from anabranch_training.bootstrap import build
from anabranch_training.settings import Settings
from anabranch_training.testing import rating, ratings

WHERE: dict[str, Any] = {"tenant": "acme", "corpus": "handbook"}
ENDED = {pb.TRAINING_STATE_DONE, pb.TRAINING_STATE_FAILED, pb.TRAINING_STATE_CANCELLED}


@dataclass(slots=True, kw_only=True)
class Training:
    stub: Any
    bus: MemoryBus
    folder: Path

    def told(self) -> list[Any]:
        return [event.message for event in self.bus.published(topics.TRAINING_CANDIDATE_TRAINED)]

    async def give(self, *given: RatingGiven) -> None:
        await self.bus.deliver(topics.FEEDBACK_RATING_GIVEN, list(given))

    async def start(self, **request: Any) -> Any:
        response = await self.stub.StartTraining(pb.StartTrainingRequest(**WHERE, author="ada", **request), timeout=5)
        return response.training

    async def get(self, run_id: str) -> Any:
        return (await self.stub.GetTraining(pb.GetTrainingRequest(run_id=run_id), timeout=5)).training

    async def ended(self, run_id: str) -> Any:
        async def look() -> Any:
            run = await self.get(run_id)
            return run if run.state in ENDED else None

        return await poll_until(look, deadline=60)


@asynccontextmanager
async def running(folder: Path, bus: MemoryBus | None = None, **settings: Any) -> AsyncIterator[Training]:
    make_keys(folder / "key", folder / "key.pub")
    bus = bus or MemoryBus()
    chosen = Settings(
        data=folder / "data",
        retrieval="127.0.0.1:1",
        registry="127.0.0.1:1",
        artifacts=str(folder / "artifacts"),
        signing_key=folder / "key",
        **settings,
    )
    process = Process(chosen, name="training")
    await process.start(build(chosen, bus=bus))
    channel = connect(process.addresses["rpc"])
    try:
        yield Training(stub=TrainingServiceStub(channel), bus=bus, folder=folder)
    finally:
        await channel.close()
        await process.stop()


@pytest.fixture
async def training(tmp_path: Path) -> AsyncIterator[Training]:
    async with running(tmp_path) as service:
        yield service


def policy(**training: Any) -> LoopChanged:
    return LoopChanged(scope="*", revision=1, policy=LoopPolicy(training=TrainingPolicy(**training)))


@pytest.mark.connected
async def test_enough_feedback_becomes_a_signed_candidate_by_itself(training: Training, tmp_path: Path) -> None:
    await training.bus.deliver(topics.REGISTRY_LOOP_CHANGED, [policy(after_feedback=400)])
    await training.give(*ratings(399))
    assert training.told() == []
    await training.give(rating(399))
    await poll_until(training.told, deadline=60)
    (told,) = training.told()
    assert (told.scope, told.author, told.withheld) == ("acme/handbook", "service:training", False)
    assert told.dataset.counts["feedback"] == 400
    assert {"seed", "lock_digest", "code_version", "dataset_digest", "library.numpy"} <= set(told.model.provenance)
    store = ArtifactStore(str(tmp_path / "artifacts"), public_key=tmp_path / "key.pub")
    model = store.fetch(told.model.model_version, into=tmp_path / "fetched")
    assert json.loads((model.folder / "reranker.json").read_text())["feature_set"] == "rf-1"
    assert told.dataset.dataset_version in (model.folder / "card.md").read_text()
    rows = store.fetch(told.dataset.dataset_version, into=tmp_path / "rows")
    assert "user" not in json.loads((rows.folder / "train.jsonl").read_text().splitlines()[0])
    status = await training.stub.GetStatus(pb.GetStatusRequest(**WHERE), timeout=5)
    assert (status.feedback_since_last, status.feedback_needed) == (0, 400)
