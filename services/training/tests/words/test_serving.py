from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from anabranch import topics
from anabranch.feedback.v1 import feedback_service_pb2_grpc as feedback_stubs
from anabranch.registry.v1 import lineage_pb2 as lineage
from anabranch.training.v1 import training_service_pb2 as pb
from anabranch.training.v1.training_service_pb2_grpc import TrainingServiceStub
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_artifacts import ArtifactStore, make_keys
from anabranch_bus import MemoryBus
from anabranch_reward import Candidate, RewardModel, best_of
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

    async def trained(self, recipe: pb.Recipe.ValueType, **request: Any) -> Any:
        started = pb.StartTrainingRequest(**WHERE, recipe=recipe, **request)
        run_id = (await self.stub.StartTraining(started, timeout=5)).training.run_id

        async def look() -> Any:
            run = (await self.stub.GetTraining(pb.GetTrainingRequest(run_id=run_id), timeout=5)).training
            return run if run.state in ENDED else None

        return await poll_until(look, deadline=60)


@asynccontextmanager
async def running(folder: Path, short: Path, count: int = 400) -> AsyncIterator[Training]:
    make_keys(folder / "key", folder / "key.pub")
    # gRPC's own server: this one implements two methods.
    server = grpc.aio.server()
    feedback = ExportedFeedback([worded(number) for number in range(count)])  # type: ignore[abstract]  # two methods are called
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


@pytest.mark.connected
async def test_corrections_and_preferences_become_data_sets_in_trls_format(training: Training) -> None:
    sft = await training.built(lineage.DATASET_KIND_SFT)
    assert (sft.kind, sft.counts["rows"], sft.counts["feedback"]) == (lineage.DATASET_KIND_SFT, 100, 400)
    row = training.rows(sft.dataset_version)[0]
    assert set(row) == {"prompt", "completion"}
    assert [one["role"] for one in (*row["prompt"], *row["completion"])] == ["system", "user", "assistant"]
    preferences = await training.built(lineage.DATASET_KIND_PREFERENCE)
    assert preferences.kind == lineage.DATASET_KIND_PREFERENCE
    rows = training.rows(preferences.dataset_version)
    assert all(set(row) == {"prompt", "chosen", "rejected"} for row in rows)
    assert "user-" not in json.dumps(rows)
    assert len(rows) == len(training.rows(preferences.dataset_version, "train.origin"))
    assert "consent" in preferences.datasheet
    # The same feedback, in another order, is the same data set.
    training.feedback.given.reverse()
    assert (await training.built(lineage.DATASET_KIND_PREFERENCE)).dataset_version == preferences.dataset_version
    asked = pb.TraceUseRequest(tenant="acme", answer_id="answer-0")
    used = (await training.stub.TraceUse(asked, timeout=5)).datasets
    assert {one.kind for one in used} == {lineage.DATASET_KIND_SFT, lineage.DATASET_KIND_PREFERENCE}


@pytest.mark.connected
async def test_what_may_not_be_used_has_no_words_or_was_taken_back_is_not_in_a_data_set(training: Training) -> None:
    denied, wordless, withdrawn = (training.feedback.given[number] for number in (0, 4, 8))
    denied.rating.given.consent = upstream.CONSENT_DENIED
    wordless.answer.has_content = False
    withdrawn.rating.withdrawn = True
    made = await training.built(lineage.DATASET_KIND_SFT)
    assert (made.counts["rows"], made.counts["consent_denied"]) == (97, 1)
    text = json.dumps(training.rows(made.dataset_version) + training.rows(made.dataset_version, "held_out"))
    assert not any(f"When does room {number} open" in text for number in range(3))


@pytest.mark.connected
async def test_a_reward_model_is_learned_signed_told_and_picks_what_people_prefer(training: Training) -> None:
    run = await training.trained(pb.RECIPE_REWARD, seed=3)
    assert run.state == pb.TRAINING_STATE_DONE, run.problem
    assert (run.recipe, run.withheld) == (pb.RECIPE_REWARD, True)
    assert run.metrics["held_out_accuracy"] > 0.75
    (told,) = [event.message for event in training.bus.published(topics.TRAINING_CANDIDATE_TRAINED)]
    assert (told.model.kind, told.dataset.kind) == (lineage.MODEL_KIND_REWARD, lineage.DATASET_KIND_PREFERENCE)
    assert told.model.model_version.startswith("rw-")
    artifact = training.store.fetch(told.model.model_version, into=training.folder / "models")
    assert {"card.md", "bom.json", "model.sig", "reward.json", "model.safetensors"} == {
        path.name for path in artifact.folder.iterdir()
    }
    model = RewardModel.load(artifact.folder, version=artifact.version)
    passages = ["The gate closes at 7 o'clock.", "Nobody swims here."]
    answers = ["All of the gates close whenever one asks.", "The gate closes at 7 o'clock. [1]"]
    assert best_of(model, "When does the gate close?", passages, answers) == 1
    good, bad = (model.share(Candidate(question="?", passages=passages, answer=one)) for one in reversed(answers))
    assert 0 <= bad < good <= 1
    again = await training.trained(pb.RECIPE_REWARD, seed=3)
    assert again.model_version == run.model_version


async def test_what_cannot_be_learned_from_words_is_refused_with_a_reason(training: Training) -> None:
    gold = [pb.GoldJudgment(question="?", relevant_documents={"d": 1})]
    for request, code, said in (
        ({"recipe": pb.RECIPE_ADAPTER_SFT}, StatusCode.INVALID_ARGUMENT, "ADAPTERS_PYTHON"),
        ({"recipe": pb.RECIPE_REWARD, "gold": gold}, StatusCode.INVALID_ARGUMENT, "gold"),
        ({"recipe": pb.RECIPE_REWARD, "reverse_labels": True}, StatusCode.INVALID_ARGUMENT, "reverse_labels"),
    ):
        with pytest.raises(AioRpcError) as raised:
            await training.stub.StartTraining(pb.StartTrainingRequest(**WHERE, **request), timeout=5)
        assert (raised.value.code(), said in str(raised.value.details())) == (code, True), raised.value.details()
    del training.feedback.given[9:]
    with pytest.raises(AioRpcError) as raised:
        await training.stub.StartTraining(pb.StartTrainingRequest(**WHERE, recipe=pb.RECIPE_REWARD), timeout=5)
    assert raised.value.code() == StatusCode.FAILED_PRECONDITION
    golden = pb.BuildDatasetRequest(**WHERE, kind=lineage.DATASET_KIND_GOLDEN)
    with pytest.raises(AioRpcError, match="kind"):
        await training.stub.BuildDataset(golden, timeout=5)
