"""The service as its callers see it."""

from __future__ import annotations

from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from anabranch import topics
from anabranch.evaluation.v1 import evaluation_service_pb2 as pb
from anabranch_evaluation.testing.running import QUESTIONS, Running, served
from anabranch_testkit import poll_until


def values(run: Any) -> dict[str, float]:
    return {one.name: one.value for one in run.metrics if not one.slice}


async def test_a_golden_set_put_twice_is_one_version_and_is_listed_once(running: Running) -> None:
    assert await running.put() == await running.put()
    listed = (await running.stub.ListDatasets(pb.ListDatasetsRequest(tenant="t"), timeout=5)).datasets
    assert [(one.name, one.corpus, one.questions) for one in listed] == [("golden", "c", QUESTIONS)]


async def test_a_golden_set_without_a_name_is_refused_by_field(running: Running) -> None:
    with pytest.raises(AioRpcError) as refused:
        await running.put(name="Not A Name")
    assert refused.value.code() is StatusCode.INVALID_ARGUMENT
    assert "name" in (refused.value.details() or "")


async def test_a_run_scores_the_ranking_with_intervals_and_slices(running: Running) -> None:
    await running.put()
    run = await running.run("v-base")
    assert (run.state, run.questions_done, run.index_generation) == (pb.RUN_STATE_DONE, QUESTIONS, 7)
    assert values(run)["mrr@10"] == pytest.approx(1 / 3 + 2 / 3 / 2)
    assert values(run)["recall@10"] == 1.0
    assert values(run)["precision@5"] == pytest.approx(0.2)
    ndcg = next(one for one in run.metrics if one.name == "ndcg@10" and not one.slice)
    assert ndcg.low < ndcg.value < ndcg.high
    assert {one.slice for one in run.metrics} == {"", "group=even", "group=odd"}


async def test_a_run_with_answers_scores_them_too(running: Running) -> None:
    await running.put()
    run = await running.run("v-good", answers=True)
    assert values(run)["em"] == values(run)["f1"] == values(run)["groundedness"] == 1.0
    assert values(run)["rouge_l"] == pytest.approx(1.0)


async def test_a_run_that_was_made_is_taken_again_until_the_index_moves(running: Running) -> None:
    await running.put()
    first, asked = await running.run("v-base"), running.world.asked
    assert (await running.run("v-base")).run_id == first.run_id
    assert running.world.asked == asked
    running.world.generation = 8
    assert (await running.run("v-base")).run_id != first.run_id


async def test_a_reranker_that_was_not_applied_fails_the_run(running: Running) -> None:
    await running.put()
    run = await running.run("v-gone")
    assert run.state == pb.RUN_STATE_FAILED
    assert "did not apply the reranker rr-gone" in run.problem


async def test_two_runs_are_compared_question_by_question(running: Running) -> None:
    await running.put()
    before, after = await running.run("v-base"), await running.run("v-good")
    asked = pb.CompareRunsRequest(baseline_run_id=before.run_id, candidate_run_id=after.run_id)
    compared = await running.stub.CompareRuns(asked, timeout=10)
    found = next(one for one in compared.differences if one.name == "mrr@10" and not one.slice)
    assert (found.better, found.worse, found.questions) == (40, 0, QUESTIONS)
    assert 0 < found.low <= found.difference <= found.high
    assert {one.name for one in compared.worst_slices} >= {"ndcg@10", "mrr@10"}


async def test_an_answer_of_an_experiment_is_scored_and_the_scores_are_told_once(running: Running) -> None:
    one = served(1, "treatment", 3)
    await running.bus.deliver(topics.GATEWAY_ANSWER_SERVED, [one])
    await running.bus.deliver(topics.GATEWAY_ANSWER_SERVED, [one])
    asked = pb.GetScoresRequest(tenant="t", answer_id=one.answer_id)
    scored = (await running.stub.GetScores(asked, timeout=5)).scored
    assert scored.scores["groundedness"] == 1.0
    assert (scored.sentences[0].chunk_id, scored.arm) == ("c1", "treatment")
    told = await poll_until(lambda: running.bus.published(topics.EVALUATION_ANSWER_SCORED), deadline=10)
    assert [event.message.answer_id for event in told] == [one.answer_id]


async def test_an_answer_that_was_not_sampled_has_no_scores(running: Running) -> None:
    with pytest.raises(AioRpcError) as refused:
        await running.stub.GetScores(pb.GetScoresRequest(tenant="t", answer_id="a"), timeout=5)
    assert refused.value.code() is StatusCode.NOT_FOUND


async def test_what_is_given_is_scored_without_being_kept(running: Running) -> None:
    asked = pb.ScoreAnswerRequest(
        question="When was the tower finished?",
        answer="The tower was finished in 1925.",
        contexts=["The tower was finished in 1889."],
    )
    reply = await running.stub.ScoreAnswer(asked, timeout=5)
    assert list(reply.sentences[0].contradictions) == ["number"]
    assert reply.scores["groundedness"] <= 0.5
