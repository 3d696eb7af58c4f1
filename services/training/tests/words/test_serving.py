from __future__ import annotations

import json
from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from anabranch.registry.v1 import lineage_pb2 as lineage
from anabranch.training.v1 import training_service_pb2 as pb
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_reward import Candidate, RewardModel, best_of

WHERE: dict[str, Any] = {"tenant": "acme", "corpus": "handbook", "author": "ada"}


@pytest.mark.connected
async def test_corrections_and_preferences_become_data_sets_in_trls_format(training: Any) -> None:
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
async def test_what_may_not_be_used_has_no_words_or_was_taken_back_is_not_in_a_data_set(training: Any) -> None:
    denied, wordless, withdrawn = (training.feedback.given[number] for number in (0, 4, 8))
    denied.rating.given.consent = upstream.CONSENT_DENIED
    wordless.answer.has_content = False
    withdrawn.rating.withdrawn = True
    made = await training.built(lineage.DATASET_KIND_SFT)
    assert (made.counts["rows"], made.counts["consent_denied"]) == (97, 1)
    text = json.dumps(training.rows(made.dataset_version) + training.rows(made.dataset_version, "held_out"))
    assert not any(f"When does room {number} open" in text for number in range(3))


@pytest.mark.connected
async def test_a_reward_model_is_learned_signed_told_and_picks_what_people_prefer(training: Any) -> None:
    run = await training.trained(pb.RECIPE_REWARD, seed=3)
    assert run.state == pb.TRAINING_STATE_DONE, run.problem
    assert (run.recipe, run.withheld) == (pb.RECIPE_REWARD, True)
    assert run.metrics["held_out_accuracy"] > 0.75
    told = await training.told()
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


async def test_what_cannot_be_learned_from_words_is_refused_with_a_reason(training: Any) -> None:
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
