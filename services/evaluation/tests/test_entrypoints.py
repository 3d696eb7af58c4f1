"""The service on a bus in memory, with its neighbours on a real gRPC server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from anabranch import topics
from anabranch.evaluation.v1 import evaluation_service_pb2 as pb
from anabranch.evaluation.v1.evaluation_service_pb2_grpc import EvaluationServiceStub
from anabranch.registry.v1 import lineage_pb2, loop_pb2
from anabranch_bus import MemoryBus
from anabranch_evaluation.bootstrap import build
from anabranch_evaluation.settings import Settings
from anabranch_evaluation.testing.neighbours import Neighbours, variant
from anabranch_rpc import connect
from anabranch_runtime import Process
from anabranch_testkit import poll_until

QUESTIONS = 60


@dataclass(slots=True, kw_only=True)
class Running:
    stub: Any
    bus: MemoryBus
    world: Neighbours

    async def put(self, **changes: Any) -> str:
        request = pb.PutDatasetRequest(
            tenant="t",
            name="golden",
            corpus="c",
            slices=["group"],
            author="ada",
            questions=[
                pb.GoldenQuestion(
                    question_id=f"q{n:02}",
                    text=f"question {n}",
                    answers=[f"About d{n}."],
                    relevant_documents={f"d{n}": 1},
                    metadata={"group": "even" if n % 2 == 0 else "odd"},
                )
                for n in range(QUESTIONS)
            ],
        )
        for name, value in changes.items():
            setattr(request, name, value)
        response = await self.stub.PutDataset(request, timeout=10)
        return str(response.dataset_version)

    async def run(self, variant_id: str, *, answers: bool = False) -> Any:
        asked = pb.StartRunRequest(tenant="t", dataset="golden", variant_id=variant_id, answers=answers)
        run_id = (await self.stub.StartRun(asked, timeout=10)).run_id

        async def ended() -> Any:
            run = (await self.stub.GetRun(pb.GetRunRequest(run_id=run_id), timeout=10)).run
            return run if run.state != pb.RUN_STATE_RUNNING else None

        return await poll_until(ended, deadline=20)

    async def candidate(self, candidate_id: str, treatment: str, **gate: Any) -> Any:
        await self.bus.deliver(
            topics.REGISTRY_CANDIDATE_CHANGED,
            [
                lineage_pb2.CandidateChanged(
                    candidate=lineage_pb2.Candidate(
                        candidate_id=candidate_id,
                        scope="t/c",
                        base=self.world.variants["v-base"],
                        variant=self.world.variants[treatment],
                        state=lineage_pb2.CANDIDATE_STATE_TRAINED,
                    ),
                    policy=loop_pb2.LoopPolicy(gate=loop_pb2.GateSpec(**gate)),
                )
            ],
        )
        return await poll_until(
            lambda: [
                event.message
                for event in self.bus.published(topics.EVALUATION_GATE_DECIDED)
                if event.message.candidate_id == candidate_id
            ],
            deadline=20,
        )


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with Neighbours() as world:
        world.variants = {
            "v-base": variant("v-base"),
            "v-good": variant("v-good", "rr-good"),
            "v-bad": variant("v-bad", "rr-bad"),
            "v-gone": variant("v-gone", "rr-gone"),
        }
        world.refuses = {"rr-gone"}
        for n in range(QUESTIONS):
            right, wrong = f"d{n}", [f"x{n}-{place}" for place in range(4)]
            # The base has every third answer first and the others second; good has all first, bad all third.
            base = [right, *wrong] if n % 3 == 0 else [wrong[0], right, *wrong[1:]]
            world.ranked |= {
                ("", f"question {n}"): base,
                ("rr-good", f"question {n}"): [right, *wrong],
                ("rr-bad", f"question {n}"): [*wrong[:2], right, *wrong[2:]],
            }
        settings = Settings(data=tmp_path, retrieval=world.address, generation=world.address, registry=world.address)
        bus, process = MemoryBus(), Process(settings, name="evaluation")
        await process.start(build(settings, bus=bus))
        channel = connect(process.addresses["rpc"])
        yield Running(stub=EvaluationServiceStub(channel), bus=bus, world=world)
        await channel.close()
        await process.stop()


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


async def test_a_better_candidate_passes_its_gate_and_is_told_once(running: Running) -> None:
    await running.put()
    (gate,) = await running.candidate("ca-good", "v-good", datasets=["golden"])
    assert gate.passed, gate.reason
    assert {check.name for check in gate.checks} == {"ndcg@10", "worst_slice", "latency_p95"}
    again = await running.candidate("ca-good", "v-good", datasets=["golden"])
    assert len(again) == 1


async def test_a_worse_candidate_fails_either_kind_of_gate(running: Running) -> None:
    await running.put()
    (improvement,) = await running.candidate("ca-1", "v-bad", datasets=["golden"])
    (regression,) = await running.candidate("ca-2", "v-bad", datasets=["golden"], mode=loop_pb2.GATE_MODE_NO_REGRESSION)
    assert not improvement.passed
    assert not regression.passed
    assert "worse" in regression.reason


@pytest.mark.parametrize(
    ("treatment", "gate", "reason"),
    [
        ("v-good", {}, "names no golden set"),
        ("v-good", {"datasets": ["missing"]}, "has no golden set 'missing'"),
        ("v-gone", {"datasets": ["golden"]}, "did not apply the reranker"),
        ("v-good", {"datasets": ["golden"], "metric": "charm"}, "metric 'charm'"),
        ("v-good", {"datasets": ["golden"], "detectable": 0.0001}, "undecided"),
    ],
)
async def test_a_gate_that_cannot_be_judged_fails_and_says_why(
    running: Running, treatment: str, gate: dict[str, Any], reason: str
) -> None:
    await running.put()
    (decided,) = await running.candidate("ca-x", treatment, **gate)
    assert not decided.passed
    assert reason in decided.reason


async def test_a_gate_by_hand_gives_the_same_verdict(running: Running) -> None:
    await running.put()
    asked = pb.DecideGateRequest(
        tenant="t",
        baseline_variant_id="v-base",
        candidate_variant_id="v-bad",
        gate=loop_pb2.GateSpec(datasets=["golden"]),
    )
    gate = (await running.stub.DecideGate(asked, timeout=30)).gate
    assert (gate.passed, gate.candidate_id, gate.candidate_variant_id) == (False, "", "v-bad")


async def test_a_candidate_that_is_past_its_gate_is_left_alone(running: Running) -> None:
    changed = lineage_pb2.CandidateChanged(
        candidate=lineage_pb2.Candidate(candidate_id="ca-y", scope="t/c", state=lineage_pb2.CANDIDATE_STATE_CANARY)
    )
    await running.bus.deliver(topics.REGISTRY_CANDIDATE_CHANGED, [changed])
    assert not running.bus.published(topics.EVALUATION_GATE_DECIDED)
    assert not running.bus.dead(topics.REGISTRY_CANDIDATE_CHANGED, "evaluation")
