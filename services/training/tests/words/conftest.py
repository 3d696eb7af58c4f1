"""Training beside a feedback service that exports what it is given."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from anabranch import topics
from anabranch.feedback.v1 import feedback_service_pb2_grpc as feedback_stubs
from anabranch.registry.v1 import lineage_pb2 as lineage
from anabranch.training.v1 import training_service_pb2 as pb
from anabranch.training.v1.training_service_pb2_grpc import TrainingServiceStub
from anabranch_artifacts import ArtifactStore, make_keys
from anabranch_bus import MemoryBus
from anabranch_rpc import connect
from anabranch_runtime import Process
from anabranch_testkit import poll_until
from anabranch_training.bootstrap import build
from anabranch_training.settings import Settings
from anabranch_training.testing import ExportedFeedback, worded

WHERE: dict[str, Any] = {"tenant": "acme", "corpus": "handbook", "author": "ada"}
ENDED = {pb.TRAINING_STATE_DONE, pb.TRAINING_STATE_FAILED, pb.TRAINING_STATE_CANCELLED}


@dataclass(slots=True, kw_only=True)
class Training:
    stub: Any
    bus: MemoryBus
    feedback: ExportedFeedback
    folder: Path

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.folder / "artifacts"), public_key=self.folder / "key.pub")

    async def built(self, kind: lineage.DatasetKind.ValueType) -> Any:
        response = await self.stub.BuildDataset(pb.BuildDatasetRequest(**WHERE, kind=kind), timeout=60)
        return response.dataset

    def rows(self, version: str, part: str = "train") -> list[Any]:
        folder = self.store.fetch(version, into=self.folder / "fetched").folder
        return [json.loads(line) for line in (folder / f"{part}.jsonl").read_text().splitlines()]

    async def trained(self, recipe: pb.Recipe.ValueType, *, deadline: float = 60, **request: Any) -> Any:
        started = pb.StartTrainingRequest(**WHERE, recipe=recipe, **request)
        run_id = (await self.stub.StartTraining(started, timeout=5)).training.run_id

        async def look() -> Any:
            run = (await self.stub.GetTraining(pb.GetTrainingRequest(run_id=run_id), timeout=5)).training
            return run if run.state in ENDED else None

        return await poll_until(look, deadline=deadline)

    async def told(self) -> Any:
        # Through the outbox, so a moment after the run is done.
        await poll_until(lambda: self.bus.published(topics.TRAINING_CANDIDATE_TRAINED))
        (event,) = self.bus.published(topics.TRAINING_CANDIDATE_TRAINED)
        return event.message


@asynccontextmanager
async def running(folder: Path, short: Path, **options: Any) -> AsyncIterator[Training]:
    make_keys(folder / "key", folder / "key.pub")
    # gRPC's own server: this one implements two methods.
    server = grpc.aio.server()
    feedback = ExportedFeedback([worded(number) for number in range(400)])  # type: ignore[abstract]  # two methods are called
    feedback_stubs.add_FeedbackServiceServicer_to_server(feedback, server)
    target = f"unix:{short / 'f.sock'}"
    server.add_insecure_port(target)
    await server.start()
    bus = MemoryBus()
    settings = Settings(
        data=folder / "data",
        retrieval="127.0.0.1:1",
        registry="127.0.0.1:1",
        feedback=target,
        artifacts=str(folder / "artifacts"),
        signing_key=folder / "key",
        **options,
    )
    process = Process(settings, name="training")
    await process.start(build(settings, bus=bus))
    channel = connect(process.addresses["rpc"])
    try:
        yield Training(stub=TrainingServiceStub(channel), bus=bus, feedback=feedback, folder=folder)
    finally:
        await channel.close()
        await process.stop()
        await server.stop(None)


@pytest.fixture
async def training(tmp_path: Path, short_dir: Path) -> AsyncIterator[Training]:
    async with running(tmp_path, short_dir) as service:
        yield service


@pytest.fixture
def serve(tmp_path: Path, short_dir: Path) -> Callable[..., AbstractAsyncContextManager[Training]]:
    """As in `async with serve(setting=...) as training`."""
    return lambda **options: running(tmp_path, short_dir, **options)
