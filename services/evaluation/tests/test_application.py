"""What the service decides about candidates and experiments."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch import topics
from anabranch.evaluation.v1 import evaluation_service_pb2 as pb
from anabranch.evaluation.v1 import events_pb2 as events
from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.registry.v1 import lineage_pb2, loop_pb2
from anabranch_evaluation.testing.running import (
    ARMS,
    CANARY,
    HOLDOUT,
    RUNNING,
    Running,
    decided,
    experiment,
    expose,
    rated,
    report,
    served,
)
from anabranch_testkit import poll_until


async def test_a_better_candidate_passes_its_gate_and_is_told_once(running: Running) -> None:
    await running.put()
    (gate,) = await running.candidate("ca-good", "v-good", datasets=["golden"])
    assert gate.passed, gate.reason
    assert {check.name for check in gate.checks} == {"ndcg@10", "worst_slice", "latency_p95"}
    again = await running.candidate("ca-good", "v-good", datasets=["golden"])
    assert len(again) == 1


async def test_a_candidate_that_is_back_at_its_gate_gets_a_verdict_of_its_own(running: Running) -> None:
    await running.put()
    (first,) = await running.candidate("ca-good", "v-good", datasets=["golden"])

    async def both() -> Any:
        gates = await running.candidate("ca-good", "v-good", revision=4, datasets=["golden"])
        return gates if len(gates) == 2 else None

    (_, second) = await poll_until(both, deadline=20)
    assert second.gate_id != first.gate_id
    assert (second.passed, second.candidate_variant_id) == (first.passed, first.candidate_variant_id)


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


@pytest.mark.parametrize("ratio", [2.0, 2.5])
async def test_a_gate_holds_the_cost_of_answers_against_what_serves_now(running: Running, ratio: float) -> None:
    await running.put()
    running.world.variants["v-base"].retrieval.top_k = 2
    (decided,) = await running.candidate("ca-cost", "v-good", datasets=["golden"], cost_ratio=ratio)
    (cost,) = [check for check in decided.checks if check.name == "cost"]
    assert (cost.baseline, cost.candidate, cost.questions) == (24.0, 54.0, 60)
    assert cost.passed == decided.passed == (ratio > 54 / 24)
    assert "54 tokens an answer against 24" in cost.reason


async def test_a_gate_that_asks_for_a_cost_that_nothing_measured_fails(running: Running) -> None:
    await running.put()
    running.world.counts_tokens = False
    (decided,) = await running.candidate("ca-cost", "v-good", datasets=["golden"], cost_ratio=1.5)
    assert not decided.passed
    assert "not measured" in decided.reason


async def test_a_candidate_that_is_past_its_gate_is_left_alone(running: Running) -> None:
    changed = lineage_pb2.CandidateChanged(
        candidate=lineage_pb2.Candidate(candidate_id="ca-y", scope="t/c", state=lineage_pb2.CANDIDATE_STATE_CANARY)
    )
    await running.bus.deliver(topics.REGISTRY_CANDIDATE_CHANGED, [changed])
    assert not running.bus.published(topics.EVALUATION_GATE_DECIDED)
    assert not running.bus.dead(topics.REGISTRY_CANDIDATE_CHANGED, "evaluation")


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


async def test_a_bandits_split_is_held_against_the_weights_that_dealt_it(running: Running) -> None:
    changed = experiment(RUNNING, 5, mode=loop_pb2.DECISION_MODE_BANDIT, min_users=10_000)
    changed.experiment.arms_revision = 5
    await running.bus.deliver(topics.REGISTRY_EXPERIMENT_CHANGED, [changed])
    await expose(running, 5, range(400))
    assert (await report(running)).sample_ratio_p_value > 0.1
    for arm, weight in zip(changed.experiment.arms, (2_000, 8_000), strict=True):
        arm.weight = weight
    changed.experiment.arms_revision = 6
    await running.bus.deliver(topics.REGISTRY_EXPERIMENT_CHANGED, [changed])
    as_asked = [served(user, ARMS[user % 5 > 0], 6) for user in range(1_000, 1_600)]
    await running.bus.deliver(topics.GATEWAY_ANSWER_SERVED, as_asked)
    # Those who come back count where they were dealt first.
    await running.bus.deliver(topics.GATEWAY_ANSWER_SERVED, [served(user, "treatment", 6) for user in range(1, 400, 2)])
    assert (await report(running)).sample_ratio_p_value > 0.1
    await expose(running, 6, range(2_000, 2_400))
    assert (await decided(running, 5)).decision == events.DECISION_SAMPLE_RATIO_MISMATCH


async def test_a_split_is_watched_after_an_arm_was_stopped(running: Running) -> None:
    changed = experiment(RUNNING, 5, min_users=10_000)
    changed.experiment.arms.append(lineage_pb2.Arm(name="other", variant_id="v-bad", stopped=True))
    changed.experiment.arms_revision = 7
    await running.bus.deliver(topics.REGISTRY_EXPERIMENT_CHANGED, [changed])
    await running.bus.deliver(topics.GATEWAY_ANSWER_SERVED, [served(user, "other", 5) for user in range(100)])
    await expose(running, 7, range(1_000, 1_400))
    assert (await report(running)).sample_ratio_p_value > 0.1
    await running.bus.deliver(topics.GATEWAY_ANSWER_SERVED, [served(9_999, "other", 7)])
    assert (await decided(running, 5)).decision == events.DECISION_SAMPLE_RATIO_MISMATCH


async def test_a_guard_that_nothing_was_measured_for_stops_nothing_and_says_so(running: Running) -> None:
    guards = [
        loop_pb2.GuardMetric(metric="cost", max_ratio=1.2),
        loop_pb2.GuardMetric(metric="block_rate", max_loss=0.1),
    ]
    await running.bus.deliver(topics.REGISTRY_EXPERIMENT_CHANGED, [experiment(CANARY, 3, guards=guards)])
    await expose(running, 3, range(60))
    told = await decided(running, 3)
    assert told.decision == events.DECISION_CANARY_PASSED
    assert told.reason.endswith("not measured: cost")
    assert [list(arm.unmeasured_guards) for arm in told.arms] == [[], ["cost"]]


@pytest.mark.parametrize("metric", ["cost", "block_rate"])
async def test_a_guard_stops_an_arm_that_costs_too_much_or_is_blocked_too_often(running: Running, metric: str) -> None:
    limit = {"cost": {"max_ratio": 1.2}, "block_rate": {"max_loss": 0.1}}[metric]
    changed = experiment(HOLDOUT, 9, guards=[loop_pb2.GuardMetric(metric=metric, **limit)])
    changed.experiment.arms[0].weight = changed.experiment.arms[1].weight = 5_000
    await running.bus.deliver(topics.REGISTRY_EXPERIMENT_CHANGED, [changed])
    answers = [served(user, ARMS[user % 2], 9) for user in range(400)]
    for place, one in enumerate(answers):
        harmed = one.arm == "treatment"
        one.usage.prompt_tokens = 100 + place % 7 + (50 if harmed else 0)
        if harmed and place % 4 == 1:
            one.finish_reason = generation.FINISH_REASON_BLOCKED
    await running.bus.deliver(topics.GATEWAY_ANSWER_SERVED, answers)
    told = await decided(running, 9)
    assert (told.decision, told.arm) == (events.DECISION_STOP_ARM, "treatment")
    assert told.reason.startswith(metric)
    if metric == "cost":
        assert told.reason.endswith("in tokens")


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
