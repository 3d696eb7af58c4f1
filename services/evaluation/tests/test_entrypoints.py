"""The service on a bus in memory, with its neighbours on a real gRPC server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from anabranch import topics
from anabranch.evaluation.v1 import evaluation_service_pb2 as pb
from anabranch.evaluation.v1 import events_pb2 as events
from anabranch.evaluation.v1.evaluation_service_pb2_grpc import EvaluationServiceStub
from anabranch.feedback.v1.events_pb2 import Cause, RatingGiven
from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch.registry.v1 import lineage_pb2, loop_pb2
from anabranch.retrieval.v1 import retrieval_service_pb2 as retrieval
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
        settings = Settings(
            data=tmp_path,
            retrieval=world.address,
            generation=world.address,
            registry=world.address,
            look_every=timedelta(milliseconds=50),
        )
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


def experiment(phase: Any, revision: int, **design: Any) -> lineage_pb2.ExperimentChanged:
    shares = {lineage_pb2.EXPERIMENT_PHASE_CANARY: 5_000, lineage_pb2.EXPERIMENT_PHASE_RUNNING: 5_000}
    treatment = shares.get(phase, 9_500)
    return lineage_pb2.ExperimentChanged(
        experiment=lineage_pb2.Experiment(
            experiment_id="ex-1",
            scope="t/c",
            candidate_id="ca-1",
            arms=[
                lineage_pb2.Arm(name="control", variant_id="v-base", weight=10_000 - treatment, control=True),
                lineage_pb2.Arm(name="treatment", variant_id="v-good", weight=treatment),
            ],
            phase=phase,
            phase_revision=revision,
            canary=loop_pb2.CanaryPolicy(min_users=20),
            design=loop_pb2.ExperimentDesign(**design),
        )
    )


def served(user: int, arm: str, revision: int, *, answer: str = "", abstained: bool = False) -> AnswerServed:
    text = answer or "The tower was finished in 1889."
    return AnswerServed(
        tenant="t",
        answer_id=f"a-{user}-{arm}-{revision}",
        corpus="c",
        user_id=f"u{user}",
        experiment_id="ex-1",
        arm=arm,
        routing_scope="t/c",
        routing_revision=revision,
        has_content=True,
        question="When was the tower finished?",
        answer=text,
        abstained=abstained,
        passages=[retrieval.Passage(chunk_id="c1", text="The tower was finished in 1889. It is tall.")],
    )


def rated(user: int, arm: str, revision: int, *, up: bool, given: int = 1, withdrawn: bool = False) -> RatingGiven:
    answer = f"a-{user}-{arm}-{revision}"
    message = RatingGiven(
        feedback_id=f"f-{answer}",
        revision=given,
        tenant="t",
        answer_id=answer,
        user_id=f"u{user}",
        cause=Cause(experiment_id="ex-1", arm=arm, routing_revision=revision, asked_by=f"u{user}"),
        withdrawn=withdrawn,
    )
    if not withdrawn:
        message.given.thumb.up = up
    return message


ARMS = ("control", "treatment")
CANARY, RUNNING, HOLDOUT = (
    lineage_pb2.EXPERIMENT_PHASE_CANARY,
    lineage_pb2.EXPERIMENT_PHASE_RUNNING,
    lineage_pb2.EXPERIMENT_PHASE_HOLDOUT,
)


async def expose(running: Running, revision: int, users: range, *, satisfied: dict[str, float] | None = None) -> None:
    """Users by turns in control and treatment; `satisfied`: share of thumbs up by arm."""
    await running.bus.deliver(topics.GATEWAY_ANSWER_SERVED, [served(user, ARMS[user % 2], revision) for user in users])
    if satisfied:
        ratings = [
            rated(user, ARMS[user % 2], revision, up=(user // 2) % 100 < satisfied[ARMS[user % 2]] * 100)
            for user in users
        ]
        await running.bus.deliver(topics.FEEDBACK_RATING_GIVEN, ratings)


async def decided(running: Running, phase_revision: int) -> Any:
    found = await poll_until(
        lambda: [
            event.message
            for event in running.bus.published(topics.EVALUATION_EXPERIMENT_DECIDED)
            if event.message.phase_revision == phase_revision
        ],
        deadline=20,
    )
    return found[0]


async def report(running: Running) -> Any:
    return await running.stub.GetExperimentReport(pb.GetExperimentReportRequest(experiment_id="ex-1"), timeout=10)


async def test_a_canary_passes_when_enough_people_saw_it_and_not_before(running: Running) -> None:
    await running.bus.deliver(topics.REGISTRY_EXPERIMENT_CHANGED, [experiment(CANARY, 3)])
    await expose(running, 2, range(60))  # of an earlier routing: they do not count
    await expose(running, 3, range(38))
    now = await report(running)
    assert now.verdict == "19 of 20 people were exposed"
    assert not running.bus.published(topics.EVALUATION_EXPERIMENT_DECIDED)
    await expose(running, 3, range(38, 42))
    told = await decided(running, 3)
    assert (told.decision, told.phase) == (events.DECISION_CANARY_PASSED, CANARY)
    # The loop looks at any time once there are enough, so the last few may not be counted yet.
    seen = {arm.arm: arm.exposed_users for arm in told.arms}
    assert 20 <= seen["treatment"] <= 21
    assert 19 <= seen["control"] <= 21


async def test_a_treatment_that_people_like_better_is_promoted_once(running: Running) -> None:
    running_ = experiment(RUNNING, 5, promote_when=loop_pb2.PROMOTE_WHEN_SUPERIOR)
    await running.bus.deliver(topics.REGISTRY_EXPERIMENT_CHANGED, [running_])
    await expose(running, 5, range(400), satisfied={"control": 0.4, "treatment": 0.9})
    told = await decided(running, 5)
    assert (told.decision, told.arm) == (events.DECISION_PROMOTE, "treatment")
    now = await report(running)
    treatment = next(arm for arm in now.arms if arm.arm == "treatment")
    assert 0 < treatment.low < treatment.difference < treatment.high
    assert len(now.decisions) == 1
    assert now.sample_ratio_p_value > 0.5


async def test_a_treatment_that_people_like_less_is_not_promoted(running: Running) -> None:
    await running.bus.deliver(topics.REGISTRY_EXPERIMENT_CHANGED, [experiment(RUNNING, 5)])
    await expose(running, 5, range(400), satisfied={"control": 0.9, "treatment": 0.4})
    assert (await decided(running, 5)).decision == events.DECISION_KEEP_CONTROL


async def test_a_group_sequential_experiment_ends_at_its_horizon(running: Running) -> None:
    design = {"mode": loop_pb2.DECISION_MODE_GROUP_SEQUENTIAL, "horizon": 100, "looks": 4}
    changed = experiment(RUNNING, 5, promote_when=loop_pb2.PROMOTE_WHEN_SUPERIOR, **design)
    await running.bus.deliver(topics.REGISTRY_EXPERIMENT_CHANGED, [changed])
    await expose(running, 5, range(200), satisfied={"control": 0.5, "treatment": 0.5})
    told = await decided(running, 5)
    assert told.decision == events.DECISION_KEEP_CONTROL
    assert "horizon" in told.reason


async def test_a_bandit_moves_shares_and_then_names_the_best(running: Running) -> None:
    changed = experiment(RUNNING, 5, mode=loop_pb2.DECISION_MODE_BANDIT)
    changed.experiment.arms.append(lineage_pb2.Arm(name="other", variant_id="v-bad"))
    for arm, weight in zip(changed.experiment.arms, (3_334, 3_333, 3_333), strict=True):
        arm.weight = weight
    await running.bus.deliver(topics.REGISTRY_EXPERIMENT_CHANGED, [changed])

    async def show(users: range, ups: dict[str, int]) -> None:
        """Users by turns in the arms; of ten in a row in an arm, so many put a thumb up."""
        arms = (*ARMS, "other")
        await running.bus.deliver(topics.GATEWAY_ANSWER_SERVED, [served(user, arms[user % 3], 5) for user in users])
        ratings = [rated(user, arms[user % 3], 5, up=(user // 3) % 10 < ups[arms[user % 3]]) for user in users]
        await running.bus.deliver(topics.FEEDBACK_RATING_GIVEN, ratings)

    await show(range(180), {"control": 5, "treatment": 5, "other": 3})
    told = await decided(running, 5)
    assert told.decision == events.DECISION_REWEIGH
    assert sum(told.weights.values()) == 10_000
    assert told.weights["other"] < 3_000
    await show(range(180, 600), {"control": 3, "treatment": 9, "other": 3})
    await poll_until(
        lambda: (
            events.DECISION_PROMOTE
            in [event.message.decision for event in running.bus.published(topics.EVALUATION_EXPERIMENT_DECIDED)]
        ),
        deadline=20,
    )


async def test_a_guard_stops_an_arm_that_harms_in_the_holdout_too(running: Running) -> None:
    changed = experiment(HOLDOUT, 9, guards=[loop_pb2.GuardMetric(metric="abstention", max_loss=0.05)])
    changed.experiment.arms[0].weight = changed.experiment.arms[1].weight = 5_000
    await running.bus.deliver(topics.REGISTRY_EXPERIMENT_CHANGED, [changed])
    harmed = [served(user, ARMS[user % 2], 9, abstained=user % 2 == 1) for user in range(200)]
    await running.bus.deliver(topics.GATEWAY_ANSWER_SERVED, harmed)
    told = await decided(running, 9)
    assert (told.decision, told.arm) == (events.DECISION_STOP_ARM, "treatment")
    assert told.reason.startswith("abstention")


async def test_a_split_that_nobody_asked_for_ends_the_experiment(running: Running) -> None:
    await running.bus.deliver(topics.REGISTRY_EXPERIMENT_CHANGED, [experiment(RUNNING, 5)])
    lopsided = [served(user, ARMS[user % 4 == 0], 5) for user in range(400)]
    await running.bus.deliver(topics.GATEWAY_ANSWER_SERVED, lopsided)
    assert (await decided(running, 5)).decision == events.DECISION_SAMPLE_RATIO_MISMATCH


async def test_people_who_saw_both_arms_are_left_out_and_counted(running: Running) -> None:
    await running.bus.deliver(topics.REGISTRY_EXPERIMENT_CHANGED, [experiment(CANARY, 3)])
    await running.bus.deliver(topics.GATEWAY_ANSWER_SERVED, [served(user, arm, 3) for user in range(4) for arm in ARMS])
    await expose(running, 3, range(10, 14))
    now = await report(running)
    assert [(arm.exposed_users, arm.mixed_users) for arm in now.arms] == [(2, 4), (2, 4)]


async def test_the_latest_word_counts_and_a_withdrawn_one_is_forgotten(running: Running) -> None:
    await running.bus.deliver(topics.REGISTRY_EXPERIMENT_CHANGED, [experiment(CANARY, 3)])
    # Feedback that comes before its answer counts when the answer has come.
    await running.bus.deliver(
        topics.FEEDBACK_RATING_GIVEN,
        [
            rated(0, "control", 3, up=False, given=2),
            rated(0, "control", 3, up=True, given=1),
            rated(2, "control", 3, up=True),
            rated(1, "treatment", 3, up=True),
            rated(1, "treatment", 3, up=True, given=2, withdrawn=True),
        ],
    )
    await expose(running, 3, range(4))
    control, treatment = (await report(running)).arms
    assert (control.measured_users, control.mean) == (2, 0.5)
    assert treatment.measured_users == 0


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
