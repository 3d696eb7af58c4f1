"""Laws of a scope's stream, and its turns one by one."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch_faults import Conflict, Invalid
from anabranch_registry.domain import RetrievalSettings, Routing, Share, Variant
from anabranch_registry.domain.candidates import Candidate, CandidateState
from anabranch_registry.domain.defaults import DEFAULT_VARIANT
from anabranch_registry.domain.experiments import WHOLE, Arm, Phase, checked_arms
from anabranch_registry.domain.faults import ExperimentRuns, Stale
from anabranch_registry.domain.policies import Policy
from anabranch_registry.domain.routing import Change
from anabranch_registry.domain.stream import Stream
from anabranch_registry.domain.stream.loop import Decision

NOW = datetime(2026, 11, 21, tzinfo=UTC)
WHO = Change(author="ada", reason="because", at=NOW)
S = CandidateState


def stream(policy: dict[str, object] | None = None) -> Stream:
    return Stream(scope="t/c", policy=Policy(policy or {}), inherited=DEFAULT_VARIANT)


def candidate(number: int, base: Variant = DEFAULT_VARIANT) -> Candidate:
    variant = Variant(retrieval=RetrievalSettings(alpha=0.5, top_k=5, reranker_version=f"rr-{number:012d}"))
    return Candidate(
        candidate_id=f"ca-{number:012d}",
        scope="t/c",
        model_version=f"rr-{number:012d}",
        dataset_version="",
        base=base,
        variant=variant,
        reason="trained",
        author="service:training",
        created_at=NOW,
        changed_at=NOW,
    )


def arrive(one: Stream, number: int, *, gated: bool = True) -> str:
    new = candidate(number)
    one.arrive(new, WHO)
    if gated:
        one.gated(new.candidate_id, passed=True, change=WHO)
    return new.candidate_id


def decide(one: Stream, decision: Decision, arm: str = "", weights: dict[str, int] | None = None) -> None:
    now = one.experiment
    assert now is not None
    one.decided(
        now.experiment_id,
        phase=now.phase,
        phase_revision=now.phase_revision,
        decision=decision,
        arm=arm,
        weights=weights,
        change=WHO,
    )


def weights(one: Stream) -> dict[str, int]:
    assert one.routing is not None
    return {share.arm or "all": share.weight for share in one.routing.shares}


def promoted(one: Stream, number: int) -> str:
    new = arrive(one, number)
    decide(one, Decision.CANARY_PASSED)
    decide(one, Decision.PROMOTE, "treatment")
    return new


def test_a_candidate_goes_from_training_to_all_of_the_traffic() -> None:
    one = stream({"canary": {"share": 10}, "experiment": {"share": 40}, "holdout": {"share": 3, "keep": "60s"}})
    new = arrive(one, 1)
    assert (one.candidates[new].state, weights(one)) == (S.CANARY, {"control": 9000, "treatment": 1000})
    decide(one, Decision.CANARY_PASSED)
    assert (one.candidates[new].state, weights(one)) == (S.EXPERIMENT, {"control": 6000, "treatment": 4000})
    decide(one, Decision.PROMOTE, "treatment")
    assert (one.candidates[new].state, weights(one)) == (S.PROMOTED, {"control": 300, "treatment": 9700})
    with pytest.raises(Stale):
        one.expire(NOW + timedelta(seconds=59), WHO)
    one.expire(NOW + timedelta(seconds=60), WHO)
    assert (one.candidates[new].state, weights(one)) == (S.SETTLED, {"all": WHOLE})
    assert one.serving == one.candidates[new].variant
    assert [move.revision for move in one.moves] == [1, 2, 3, 4]
    assert one.ended[-1].phase is Phase.STOPPED


def test_a_breach_in_the_holdout_rolls_back_without_a_person() -> None:
    one = stream()
    new = promoted(one, 1)
    decide(one, Decision.STOP_ARM, "treatment")
    assert (one.candidates[new].state, one.serving) == (S.ROLLED_BACK, DEFAULT_VARIANT)
    assert one.labels == {"production": DEFAULT_VARIANT.variant_id, "last-good": DEFAULT_VARIANT.variant_id}


@pytest.mark.parametrize(
    "decision", [Decision.STOP_ARM, Decision.SAMPLE_RATIO_MISMATCH, Decision.KEEP_CONTROL], ids=str
)
def test_what_ends_an_experiment_before_promotion_rejects_its_candidate(decision: Decision) -> None:
    one = stream()
    new = arrive(one, 1)
    decide(one, Decision.CANARY_PASSED)
    decide(one, decision, "treatment")
    assert (one.candidates[new].state, one.serving, one.experiment) == (S.REJECTED, DEFAULT_VARIANT, None)


def test_a_candidate_that_fails_its_gate_moves_nothing() -> None:
    one = stream()
    new = arrive(one, 1, gated=False)
    one.gated(new, passed=False, change=WHO)
    assert (one.candidates[new].state, one.moves) == (S.REJECTED, [])


def test_a_decision_about_another_phase_is_stale() -> None:
    one = stream()
    arrive(one, 1)
    now = one.experiment
    assert now is not None
    for phase, revision in ((Phase.RUNNING, now.phase_revision), (Phase.CANARY, now.phase_revision + 1)):
        with pytest.raises(Stale):
            one.decided(
                now.experiment_id,
                phase=phase,
                phase_revision=revision,
                decision=Decision.STOP_ARM,
                arm="treatment",
                change=WHO,
            )
    with pytest.raises(Stale):
        decide(one, Decision.PROMOTE, "treatment")


def test_a_candidate_waits_for_the_scope_and_goes_on_when_it_is_free() -> None:
    one = stream()
    first, second = arrive(one, 1), arrive(one, 2)
    assert (one.candidates[second].state, one.candidates[second].awaiting) == (S.GATED, "")
    assert "waits for the end of experiment" in one.candidates[second].reason
    decide(one, Decision.STOP_ARM, "treatment")
    assert [one.candidates[who].state for who in (first, second)] == [S.REJECTED, S.CANARY]


def test_a_candidate_whose_base_changed_while_it_waited_is_gated_again_before_it_meets_traffic() -> None:
    one = stream()
    first, second = promoted(one, 1), arrive(one, 2)
    assert one.candidates[second].base == DEFAULT_VARIANT
    one.expire(NOW + timedelta(days=8), WHO)
    winner, waited = one.candidates[first].variant, one.candidates[second]
    assert (waited.state, waited.base, one.experiment) == (S.TRAINED, winner, None)
    assert waited.reason.endswith(f"{winner.variant_id} serves since: gated again")
    revisions = one.revision
    one.gated(second, passed=True, change=WHO)
    assert one.candidates[second].state is S.CANARY
    assert one.experiment is not None
    assert one.experiment.control.variant_id == winner.variant_id
    assert one.revision == revisions + 1


def test_a_candidate_that_waited_and_fails_its_second_gate_moves_nothing() -> None:
    one = stream()
    promoted(one, 1)
    second = arrive(one, 2)
    one.expire(NOW + timedelta(days=8), WHO)
    moves = len(one.moves)
    one.gated(second, passed=False, change=WHO)
    assert (one.candidates[second].state, len(one.moves)) == (S.REJECTED, moves)


def test_what_changed_while_a_gate_ran_is_seen_when_its_verdict_comes() -> None:
    one = stream()
    new = arrive(one, 1, gated=False)
    other = candidate(2).variant
    one.set_by_hand([Share(variant=other, weight=WHOLE)], WHO)
    one.gated(new, passed=True, change=WHO)
    assert (one.candidates[new].state, one.candidates[new].base) == (S.TRAINED, other)
    one.gated(new, passed=True, change=WHO)
    assert one.candidates[new].state is S.CANARY


def test_a_person_is_asked_again_about_a_candidate_that_was_gated_again() -> None:
    one = stream({"approvals": ["canary"]})
    new = arrive(one, 1)
    one.set_by_hand([Share(variant=candidate(2).variant, weight=WHOLE)], WHO)
    one.approve(new, "canary", rejected=False, change=WHO)
    assert (one.candidates[new].state, one.candidates[new].awaiting) == (S.TRAINED, "")
    one.gated(new, passed=True, change=WHO)
    assert (one.candidates[new].state, one.candidates[new].awaiting) == (S.GATED, "canary")


def test_a_newer_candidate_supersedes_the_one_that_waits() -> None:
    one = stream()
    _, second, third = arrive(one, 1), arrive(one, 2), arrive(one, 3)
    assert one.candidates[second].state is S.REJECTED
    assert one.candidates[second].reason == f"superseded by {third}"
    assert one.candidates[third].state is S.GATED


def test_each_step_waits_for_a_person_where_the_policy_says_so() -> None:
    one = stream({"approvals": ["canary", "experiment", "promotion"]})
    new = arrive(one, 1)
    assert (one.candidates[new].awaiting, one.moves) == ("canary", [])
    with pytest.raises(Conflict):
        one.approve(new, "promotion", rejected=False, change=WHO)
    one.approve(new, "canary", rejected=False, change=WHO)
    decide(one, Decision.CANARY_PASSED)
    assert (one.candidates[new].state, one.candidates[new].awaiting) == (S.CANARY, "experiment")
    one.approve(new, "experiment", rejected=False, change=WHO)
    decide(one, Decision.PROMOTE, "treatment")
    assert (one.candidates[new].state, one.candidates[new].awaiting) == (S.EXPERIMENT, "promotion")
    one.approve(new, "promotion", rejected=True, change=WHO)
    assert (one.candidates[new].state, one.serving) == (S.REJECTED, DEFAULT_VARIANT)


def test_a_paused_loop_stops_after_the_gate() -> None:
    one = stream({"paused": True})
    new = arrive(one, 1)
    assert (one.candidates[new].state, one.candidates[new].awaiting, one.moves) == (S.GATED, "canary", [])


def test_a_person_rolls_a_settled_promotion_back_once() -> None:
    one = stream()
    new = promoted(one, 1)
    one.expire(NOW + timedelta(days=7), WHO)
    assert one.roll_back(one.moves[-2], named=False, change=WHO) == new
    assert (one.serving, one.candidates[new].state) == (DEFAULT_VARIANT, S.ROLLED_BACK)
    with pytest.raises(Conflict, match="served before its last promotion"):
        one.roll_back(one.moves[-2], named=False, change=WHO)


def test_a_person_promotes_at_once_and_wholly() -> None:
    one = stream()
    new = arrive(one, 1, gated=False)
    one.promote(one.candidates[new].variant, candidate=one.candidates[new], whole=True, change=WHO)
    assert (one.candidates[new].state, weights(one)) == (S.SETTLED, {"all": WHOLE})
    with pytest.raises(Conflict):
        one.promote(one.candidates[new].variant, candidate=None, whole=True, change=WHO)


def test_traffic_of_an_experiment_is_not_moved_by_hand() -> None:
    one = stream()
    arrive(one, 1)
    with pytest.raises(ExperimentRuns):
        one.set_by_hand([Share(variant=DEFAULT_VARIANT, weight=1)], WHO)


def test_a_bandit_moves_shares_and_exposures_go_on_to_count() -> None:
    one = stream()
    arrive(one, 1)
    decide(one, Decision.CANARY_PASSED)
    before = one.experiment
    decide(one, Decision.REWEIGH, weights={"control": 2000, "treatment": 8000})
    assert weights(one) == {"control": 2000, "treatment": 8000}
    assert before is not None
    assert one.experiment is not None
    assert one.experiment.phase_revision == before.phase_revision
    assert one.experiment.arms_revision == one.revision == before.arms_revision + 1
    with pytest.raises(Invalid):
        decide(one, Decision.REWEIGH, weights={"control": 2000, "treatment": 7000})


@pytest.mark.parametrize(
    ("arms", "field"),
    [
        ([("control", 5000, True), ("b", 4999, False)], "arms.weight"),
        ([("a", 5000, False), ("b", 5000, False)], "arms.control"),
        ([("a", 5000, True), ("a", 5000, False)], "arms[1].name"),
        ([("A", 5000, True), ("b", 5000, False)], "arms[0].name"),
        ([("a", 10000, True), ("b", 0, False)], "arms[0].weight"),
        ([("a", 10000, True)], "arms"),
        ([("a", 5000, True), ("b", 5000, False)], "arms[1].variant_id"),
    ],
)
def test_arms_that_cannot_be_are_refused_naming_the_field(arms: list[tuple[str, int, bool]], field: str) -> None:
    with pytest.raises(Invalid) as raised:
        checked_arms(
            [
                Arm(name=name, variant_id="v-0123456789ab", weight=weight, control=control)
                for name, weight, control in arms
            ]
        )
    assert raised.value.field == field


moves = st.lists(
    st.tuples(
        st.sampled_from(
            ["arrive", "pass", "fail", "decide", "approve", "refuse", "promote", "back", "back to", "stop", "expire"]
        ),
        st.integers(0, 7),
        st.sampled_from(list(Decision)),
    ),
    max_size=40,
)


def play(one: Stream, what: str, number: int, decision: Decision, people: set[str]) -> None:
    ids = list(one.candidates)
    who = ids[number % len(ids)] if ids else ""
    match what:
        case "arrive":
            one.arrive(candidate(len(ids) + 1, one.serving), WHO)
        case "pass" | "fail" if who:
            one.gated(who, passed=what == "pass", change=WHO)
        case "decide" if one.experiment:
            arm = ["control", "treatment"][number % 2]
            decide(one, decision, arm, {"control": 1000 * number, "treatment": WHOLE - 1000 * number})
        case "approve" | "refuse" if who:
            one.approve(who, one.candidates[who].awaiting, rejected=what == "refuse", change=WHO)
        case "promote" if who:
            chosen = one.candidates[who]
            one.promote(chosen.variant, candidate=chosen, whole=number % 2 == 0, change=WHO)
            people.add(who)
        case "back":
            one.roll_back(one.moves[-2] if len(one.moves) > 1 else None, named=False, change=WHO)
        case "back to" if one.moves:
            one.roll_back(one.moves[number % len(one.moves)], named=True, change=WHO)
        case "stop" if one.experiment:
            one.stop(one.experiment.experiment_id, WHO)
        case "expire":
            one.expire(NOW + timedelta(days=8), WHO)
        case _:
            pass


@settings(max_examples=300, deadline=None)
@given(
    moves,
    st.sampled_from([{}, {"approvals": ["canary", "promotion"]}, {"approvals": ["experiment"]}, {"paused": True}]),
)
def test_whatever_happens_one_set_of_variants_serves_and_nothing_is_promoted_unseen(
    story: list[tuple[str, int, Decision]], policy: dict[str, object]
) -> None:
    one, people, passed = stream(policy), set[str](), set[str]()
    against: dict[str, Variant] = {}  # what each was last gated against
    for what, number, decision in story:
        gated = {who for who, that in one.candidates.items() if that.state is S.TRAINED}
        bases = {who: one.candidates[who].base for who in gated}
        with suppress(Conflict):
            play(one, what, number, decision, people)
        against |= {who: base for who, base in bases.items() if one.candidates[who].revision > 1}
        passed |= {who for who in gated if one.candidates[who].state not in (S.TRAINED, S.REJECTED)} - people
        check(one)
        for who, that in one.candidates.items():
            if that.state in (S.PROMOTED, S.SETTLED, S.ROLLED_BACK):
                assert who in passed | people
            if that.state in (S.CANARY, S.EXPERIMENT):
                assert one.experiment is not None
                assert against[who] == that.base == one.variants[one.experiment.control.variant_id]
    assert [move.revision for move in one.moves] == list(range(1, len(one.moves) + 1))


def check(one: Stream) -> None:
    if one.routing is not None:
        assert sum(share.weight for share in one.routing.shares) == WHOLE
        assert all(share.weight > 0 for share in one.routing.shares)
        assert one.serving in [share.variant for share in one.routing.shares]
    running = one.experiment
    on_traffic = [that for that in one.candidates.values() if that.state in (S.CANARY, S.EXPERIMENT, S.PROMOTED)]
    if running is None:
        assert not on_traffic
        assert one.routing is None or not any(share.experiment_id for share in one.routing.shares)
    else:
        assert isinstance(one.routing, Routing)
        assert running.phase is not Phase.STOPPED
        assert sum(arm.weight for arm in running.arms) == WHOLE
        assert sum(arm.control for arm in running.arms) == 1
        assert {share.experiment_id for share in one.routing.shares} == {running.experiment_id}
        assert {that.candidate_id for that in on_traffic} <= {running.candidate_id}
