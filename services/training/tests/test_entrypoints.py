from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from grpc import StatusCode
from grpc.aio import AioRpcError

from anabranch import topics
from anabranch.feedback.v1.events_pb2 import RatingGiven
from anabranch.registry.v1.loop_pb2 import LoopChanged, LoopPolicy, TrainingPolicy
from anabranch.training.v1 import training_service_pb2 as pb
from anabranch.training.v1.training_service_pb2_grpc import TrainingServiceStub
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_artifacts import ArtifactStore, make_keys
from anabranch_bus import MemoryBus
from anabranch_rpc import connect
from anabranch_runtime import Process
from anabranch_testkit import poll_until
from anabranch_training.adapters.workshop.folder import RunFolder
from anabranch_training.bootstrap import build
from anabranch_training.entrypoints.ratings import taken_from
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


@pytest.mark.connected
async def test_labels_that_say_nothing_of_passages_make_no_candidate(training: Training) -> None:
    coins = random.Random(5)  # noqa: S311  no secret
    await training.give(*(rating(number, relevant=coins.random() < 0.5) for number in range(600)))
    done = await training.ended((await training.start()).run_id)
    assert (done.state, done.model_version) == (pb.TRAINING_STATE_DONE, "")
    assert done.problem.startswith("nothing to gain")
    assert done.metrics["cv_log_likelihood.gain"] < 2 * done.metrics["cv_log_likelihood.error"]
    # What it was learned from is kept; withheld from people, the model is as well.
    found = await training.stub.TraceUse(pb.TraceUseRequest(tenant="acme", answer_id="answer-7"), timeout=5)
    assert [one.dataset_version for one in found.datasets] == [done.dataset_version]
    kept = await training.ended((await training.start(withheld=True)).run_id)
    assert (kept.dataset_version, kept.problem) == (done.dataset_version, "")
    (told,) = await poll_until(training.told)
    assert (told.withheld, told.model.model_version) == (True, kept.model_version)
    assert "Not offered as a candidate: nothing to gain" in told.model.card


@pytest.mark.connected
@pytest.mark.slow
async def test_the_same_feedback_and_seed_make_the_same_model_though_its_process_is_killed(
    training: Training,
) -> None:
    await training.give(*ratings(400))
    first = await training.ended((await training.start(seed=7)).run_id)
    assert first.state == pb.TRAINING_STATE_DONE, first.problem
    run = await training.start(seed=7, withheld=True)
    folder = RunFolder(training.folder / "data" / "runs" / run.run_id)
    began = await poll_until(lambda: (folder.read("progress") or None) and folder.read("process"), deadline=30)
    os.kill(began["pid"], signal.SIGKILL)
    again = await training.ended(run.run_id)
    assert again.state == pb.TRAINING_STATE_DONE, again.problem
    assert (again.model_version, again.dataset_version) == (first.model_version, first.dataset_version)
    assert again.metrics == first.metrics
    await poll_until(lambda: len(training.told()) == 2)
    assert [told.withheld for told in training.told()] == [False, True]
    await poll_until(lambda: not folder.path.exists())
    other = await training.ended((await training.start(seed=7, reverse_labels=True)).run_id)
    assert other.model_version not in {"", first.model_version}


@pytest.mark.connected
async def test_a_service_that_starts_again_goes_on_with_the_run_it_left(tmp_path: Path) -> None:
    async with running(tmp_path) as training:
        await training.give(*ratings(400))
        run = await training.start()
        folder = RunFolder(tmp_path / "data" / "runs" / run.run_id)
        left = await poll_until(lambda: folder.read("process"), deadline=30)
    with pytest.raises(ProcessLookupError):
        os.kill(left["pid"], 0)
    async with running(tmp_path) as training:
        assert (await training.ended(run.run_id)).state == pb.TRAINING_STATE_DONE
        await poll_until(training.told)


@pytest.mark.connected
async def test_runs_of_a_corpus_wait_for_each_other_and_can_be_cancelled(training: Training) -> None:
    await training.give(*ratings(300))
    first, second, third = [await training.start(seed=seed) for seed in range(3)]
    for run in (third, first):
        message = await training.stub.CancelTraining(pb.CancelTrainingRequest(run_id=run.run_id), timeout=5)
        assert message.training.state == pb.TRAINING_STATE_CANCELLED
    done = await training.ended(second.run_id)
    assert done.state == pb.TRAINING_STATE_DONE
    listed = await training.stub.ListTrainings(pb.ListTrainingsRequest(**WHERE, page_size=2), timeout=5)
    assert [run.run_id for run in listed.trainings] == [third.run_id, second.run_id]
    rest = pb.ListTrainingsRequest(page_token=listed.next_page_token)
    listed = await training.stub.ListTrainings(rest, timeout=5)
    assert [(run.run_id, run.state) for run in listed.trainings] == [(first.run_id, pb.TRAINING_STATE_CANCELLED)]
    assert done.parameters["seed"] == "1"
    assert len(done.metrics) > 0


@pytest.mark.connected
async def test_a_data_set_is_built_without_training_and_its_use_can_be_traced(training: Training) -> None:
    await training.give(*ratings(60))
    request = pb.BuildDatasetRequest(**WHERE, author="ada")
    made = (await training.stub.BuildDataset(request, timeout=30)).dataset
    assert made.counts["feedback"] == 60
    assert "label noise" in made.datasheet
    store = ArtifactStore(str(training.folder / "artifacts"), public_key=None)
    files = store.fetch(made.dataset_version, into=training.folder / "fetched").folder
    document = json.loads((files / "train.jsonl").read_text().splitlines()[0])["document"]
    for asked in ({"answer_id": "answer-7"}, {"corpus": "handbook", "document_id": document}):
        found = await training.stub.TraceUse(pb.TraceUseRequest(tenant="acme", **asked), timeout=5)
        assert [one.dataset_version for one in found.datasets] == [made.dataset_version]
    for asked in ({"answer_id": "answer-60"}, {"corpus": "other", "document_id": document}):
        assert not (await training.stub.TraceUse(pb.TraceUseRequest(tenant="acme", **asked), timeout=5)).datasets
    assert training.told() == []


async def refused(training: Training, request: pb.StartTrainingRequest) -> tuple[StatusCode, str]:
    with pytest.raises(AioRpcError) as raised:
        await training.stub.StartTraining(request, timeout=5)
    return raised.value.code(), str(raised.value.details())


async def test_what_cannot_be_trained_is_refused_with_a_reason(training: Training) -> None:
    by = {"author": "ada", **WHERE}
    code, said = await refused(training, pb.StartTrainingRequest(**by))
    assert (code, "0 usable feedbacks and needs 200" in said) == (StatusCode.FAILED_PRECONDITION, True)
    await training.give(*[rating(number, relevant=True) for number in range(220)])
    code, said = await refused(training, pb.StartTrainingRequest(**by))
    assert (code, "one label" in said) == (StatusCode.FAILED_PRECONDITION, True)
    for request, field in (
        (pb.StartTrainingRequest(**WHERE), "author"),
        (pb.StartTrainingRequest(**by, recipe=pb.RECIPE_REWARD), "recipe"),
        (pb.StartTrainingRequest(**by, seed=2**40), "seed"),
        (pb.StartTrainingRequest(**by, gold=[pb.GoldJudgment(question="?")]), "gold[0].relevant_documents"),
    ):
        code, said = await refused(training, request)
        assert (code, field in said) == (StatusCode.INVALID_ARGUMENT, True), said


async def test_feedback_that_may_not_be_used_or_was_taken_back_is_not_kept(training: Training) -> None:
    async def fresh() -> int:
        status = await training.stub.GetStatus(pb.GetStatusRequest(**WHERE), timeout=5)
        return int(status.feedback_since_last)

    denied, without_features, unnamed = rating(1), rating(2), rating(3)
    denied.given.consent = upstream.CONSENT_DENIED
    without_features.cause.feature_set = ""
    unnamed.corpus = ""
    await training.give(rating(0), denied, without_features, unnamed)
    assert await fresh() == 1
    assert len(training.bus.dead(topics.FEEDBACK_RATING_GIVEN, "training")) == 1
    gone = RatingGiven(feedback_id="feedback-0", revision=2, **WHERE, withdrawn=True)
    await training.give(gone)
    assert await fresh() == 0
    await training.give(rating(0))  # an earlier revision that comes late brings nothing back
    assert await fresh() == 0
    kept = sqlite3.connect(training.folder / "data" / "training.db").execute(
        "select judgments, answer_id from feedback"
    )
    assert set(kept.fetchall()) == {("", "")}


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (upstream.FeedbackGiven(thumb=upstream.Thumb(up=True)), {0: 0.65}),
        (upstream.FeedbackGiven(thumb=upstream.Thumb()), {0: 0.35}),
        (upstream.FeedbackGiven(rating=upstream.Rating(stars=5)), {0: 0.65}),
        (upstream.FeedbackGiven(rating=upstream.Rating(stars=3)), {}),
        (upstream.FeedbackGiven(rating=upstream.Rating(stars=1)), {0: 0.35}),
        (upstream.FeedbackGiven(citation=upstream.CitationJudgment(chunk_id="chunk-0-2")), {2: 0.0}),
        (upstream.FeedbackGiven(citation=upstream.CitationJudgment(chunk_id="elsewhere", relevant=True)), {}),
        (
            upstream.FeedbackGiven(
                implicit=upstream.Implicit(sign=upstream.SIGN_CITATION_OPENED, chunk_id="chunk-0-1")
            ),
            {1: 0.6},
        ),
        (upstream.FeedbackGiven(implicit=upstream.Implicit(sign=upstream.SIGN_ANSWER_COPIED)), {}),
        (
            upstream.FeedbackGiven(review=upstream.Review(ranking=["chunk-0-4", "chunk-0-1"], relevant=["chunk-0-4"])),
            {4: 1, 1: 0},
        ),
        (upstream.FeedbackGiven(review=upstream.Review(ranking=["chunk-0-4"], skipped=True)), {}),
        (upstream.FeedbackGiven(correction=upstream.Correction(text="no")), {}),
    ],
)
def test_what_a_feedback_says_about_passages(given: upstream.FeedbackGiven, labels: dict[int, float]) -> None:
    message = rating(0)
    message.given.CopyFrom(given)
    assert {int(one.chunk[-1]): one.label for one in taken_from(message).judgments} == labels


def test_a_passage_that_changed_places_by_lot_is_kept_with_both_of_them() -> None:
    message = rating(0)
    message.cause.ranks_randomised = True
    judged = next(one for one in message.cause.chunks if one.chunk_id == message.given.citation.chunk_id)
    judged.shown_rank, judged.rank = 4, 1
    (one,) = taken_from(message).judgments
    assert (one.shown_rank, one.rank, one.randomised) == (4, 1, True)


def test_the_golden_feedback_is_learned_from() -> None:
    example = Path(__file__).parents[3] / "protos/examples/feedback.rating.given.v1/joined.textproto"
    (one,) = taken_from(text_format.Parse(example.read_text(encoding="utf-8"), RatingGiven())).judgments
    assert (one.label, one.rank, len(one.features)) == (1.0, 1, 16)
