"""What is kept, on both databases; and the service on a real broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from anabranch import topics
from anabranch.evaluation.v1.events_pb2 import DECISION_CANARY_PASSED, ExperimentDecided, GateDecided
from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch.registry.v1 import lineage_pb2, loop_pb2
from anabranch_bus import Batch, BusSettings, Event, KafkaBus, MemoryBus, Outcome
from anabranch_evaluation.adapters.answers import SqlAnswerLog
from anabranch_evaluation.adapters.attic import SqlAttic
from anabranch_evaluation.adapters.gates import SqlGates
from anabranch_evaluation.adapters.golden_sets import SqlGoldenSets
from anabranch_evaluation.adapters.judging import LibraryJudge
from anabranch_evaluation.adapters.observations import SqlObservations
from anabranch_evaluation.adapters.runs import SqlRuns
from anabranch_evaluation.adapters.waiting import SqlVerdicts
from anabranch_evaluation.application.keeping import DropOld, TendRuns
from anabranch_evaluation.application.ports import Written
from anabranch_evaluation.bootstrap import build, database_of
from anabranch_evaluation.domain.costs import Cost, Usage
from anabranch_evaluation.domain.experiments import Decision, Exposure, Opinion, Phase, Verb
from anabranch_evaluation.domain.gates import Check, Gate
from anabranch_evaluation.domain.golden import GoldenQuestion, GoldenSet
from anabranch_evaluation.domain.runs import Metric, Run, RunKey, RunState, Scored
from anabranch_evaluation.entrypoints.kafka import encoded_decision, encoded_gate, encoded_score
from anabranch_evaluation.settings import Settings
from anabranch_evaluation.testing.neighbours import Neighbours, variant
from anabranch_faults import NotFound
from anabranch_runtime import Process
from anabranch_store import Database, OutboxRelay
from anabranch_testkit import poll_until

AT = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
GOLDEN = GoldenSet(
    tenant="t",
    name="g",
    corpus="c",
    slices=("group",),
    questions=(
        GoldenQuestion(question_id="q1", text="Was? 🌊", documents={"d": 2}, metadata={"group": "a"}),
        GoldenQuestion(question_id="q2", text="Who?", answers=("Ada",), chunks={"k": 1}, unanswerable=True),
    ),
)
KEY = RunKey(tenant="t", dataset="g", dataset_version=GOLDEN.version, variant_id="v-1", corpus="c")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = database_of(database_url)
    await database.migrate()
    yield database
    await database.close()


async def test_a_golden_set_comes_back_as_it_was_put_and_the_newest_of_a_name_holds(database: Database) -> None:
    sets = SqlGoldenSets(database)
    newer = replace(GOLDEN, questions=GOLDEN.questions[:1])
    for one in (GOLDEN, GOLDEN, newer):
        await sets.put(one, author="ada", at=AT)
    assert await sets.latest("t", "g") == newer
    assert await sets.version("t", GOLDEN.version) == GOLDEN
    assert [(one.version, one.questions) for one in await sets.entries("t")] == [(newer.version, 1)]
    assert await sets.entries("u") == []
    with pytest.raises(NotFound):
        await sets.latest("u", "g")


async def test_a_run_is_found_again_only_for_the_same_index_and_when_it_is_done(database: Database) -> None:
    runs = SqlRuns(database)
    run = Run(run_id="rn-1", key=KEY, state=RunState.RUNNING, started_at=AT, total=2)
    await runs.begin(run)
    await runs.progress("rn-1", 1)
    assert (await runs.get("rn-1")).done == 1
    assert await runs.done(KEY, index_generation=7) is None
    done = replace(
        run,
        state=RunState.DONE,
        done=2,
        index_generation=7,
        metrics=[Metric(name="ndcg@10", value=0.1 + 0.2, low=0.1, high=0.5, questions=2)],
        questions={
            "q1": Scored(scores={"ndcg@10": 1 / 3}, latency=timedelta(milliseconds=12)),
            "q2": Scored(scores={}, latency=timedelta(), usage=Usage(prompt_tokens=9, completion_tokens=2, model="m")),
        },
        finished_at=AT,
    )
    await runs.finish(done)
    assert await runs.done(KEY, index_generation=7) == done
    assert await runs.done(KEY, index_generation=8) is None
    assert await runs.done(replace(KEY, variant_id="v-2"), index_generation=7) is None


async def test_runs_are_paged_newest_first(database: Database) -> None:
    runs = SqlRuns(database)
    for number in range(3):
        await runs.begin(Run(run_id=f"rn-{number}", key=KEY, state=RunState.RUNNING, started_at=AT))
    page, following = await runs.page("t", dataset="", count=2, before=0)
    rest, end = await runs.page("t", dataset="g", count=2, before=following)
    assert [one.run_id for one in (*page, *rest)] == ["rn-2", "rn-1", "rn-0"]
    assert end == 0


async def test_a_run_is_failed_only_when_no_process_beats_for_it(database: Database) -> None:
    runs, told, time = SqlRuns(database), list[str](), [0.0]
    for run_id in ("rn-here", "rn-gone"):
        await runs.begin(Run(run_id=run_id, key=KEY, state=RunState.RUNNING, started_at=AT))

    def replica(*own: str) -> TendRuns:
        return TendRuns(runs=runs, own=lambda: own, delayed=told.append, clock=lambda: time[0])

    first, second = replica("rn-here"), replica()
    for time[0] in (0.0, 30.0, 59.0):
        for each in (first, second):
            await each.look()
    assert set(await runs.running()) == {"rn-here", "rn-gone"}
    # One that starts now does not know how long the run has been silent.
    starting = replica()
    time[0] = 61.0
    await starting.look()
    assert set(await runs.running()) == {"rn-here", "rn-gone"}
    for each in (first, second, starting):
        await each.look()
    assert set(await runs.running()) == {"rn-here"}
    assert "gone" in (await runs.get("rn-gone")).problem
    assert not told


async def test_what_was_shown_of_a_split_stays_shown_whoever_looks_next(database: Database) -> None:
    seen = SqlObservations(database, encode=encoded_decision)
    assert await seen.sample_ratio("ex", 3) == 1.0
    for p_value in (0.5, 0.02, 0.3):
        await seen.keep_sample_ratio("ex", 3, p_value)
    again = SqlObservations(database, encode=encoded_decision)
    assert await again.sample_ratio("ex", 3) == 0.02
    assert await again.sample_ratio("ex", 4) == 1.0


async def test_people_are_counted_where_they_were_dealt_first_with_the_weights_of_then(database: Database) -> None:
    log, seen = SqlAnswerLog(database, encode=encoded_score), SqlObservations(database, encode=encoded_decision)
    shown = [
        exposure("a1", "control", "u1"),
        exposure("a2", "treatment", "u1", revision=4),
        exposure("a3", "treatment", "u2", revision=4),
        exposure("a4", "treatment", "u3"),
        exposure("a5", "treatment", "u4", revision=2),
    ]
    await log.record([(one, None) for one in shown], [])
    found = await seen.exposed("ex", since_revision=3)
    assert found.dealt == {3: {"control": 1, "treatment": 1}, 4: {"treatment": 1}}
    for weights in ({"control": 5_000, "treatment": 5_000}, {"control": 1, "treatment": 9_999}):
        await seen.weigh("ex", 3, weights)
    await seen.weigh("ex", 4, {"control": 2_000, "treatment": 8_000})
    assert await seen.weights("ex", since_revision=3) == {
        3: {"control": 5_000, "treatment": 5_000},
        4: {"control": 2_000, "treatment": 8_000},
    }


async def test_a_persons_cost_is_in_money_only_if_all_their_answers_have_a_price(database: Database) -> None:
    log, seen = SqlAnswerLog(database, encode=encoded_score), SqlObservations(database, encode=encoded_decision)
    shown = [
        replace(exposure("a1", "control", "u1"), tokens=10.0, microdollars=4.0),
        replace(exposure("a2", "control", "u1"), tokens=30.0, blocked=True),
        replace(exposure("a3", "treatment", "u2"), tokens=10.0, microdollars=4.0),
        exposure("a4", "other", "u3"),
    ]
    await log.record([(one, None) for one in shown], [])
    people = {one.arm: one for one in (await seen.exposed("ex", since_revision=3)).people}
    assert people["control"].cost == Cost(tokens=20.0)
    assert people["control"].blocked == 0.5
    assert people["treatment"].cost == Cost(tokens=10.0, microdollars=4.0)
    assert people["other"].cost is None


async def test_what_is_old_is_dropped_in_batches_unless_its_experiment_is_active(database: Database) -> None:
    log, seen = SqlAnswerLog(database, encode=encoded_score), SqlObservations(database, encode=encoded_decision)
    dropped, late = list[int](), AT + timedelta(days=40)
    shown = [exposure(f"a{number}", "control", "u") for number in range(7)]
    active = replace(exposure("b", "control", "u"), experiment_id="ex-active")
    fresh = replace(exposure("c", "control", "u"), served_at=late)
    await log.record([(one, None) for one in (*shown, active, fresh)], [])
    await seen.judge([opinion(f"f{number}", f"a{number}", 1.0) for number in range(4)])
    verdicts = SqlVerdicts(database)
    await verdicts.keep({"old": "4"}, at=AT)
    await verdicts.keep({"new": "5"}, at=late)
    attic = DropOld(
        attic=SqlAttic(database),
        active=lambda: {"ex-active"},
        dropped=dropped.append,
        delayed=lambda _: None,
        retention=timedelta(days=30),
        batch=3,
        pause=timedelta(),
        now=lambda: late,
    )
    assert await attic.attic.drop(before=late - timedelta(days=30), keeping={"ex-active"}, most=3) == 3
    assert await attic.look() == 9
    assert dropped == [9]
    assert await verdicts.known(["old", "new"]) == {"new": "5"}
    assert [one.arm for one in (await seen.exposed("ex-active", since_revision=0)).people] == ["control"]
    assert len((await seen.exposed("ex", since_revision=0)).people) == 1


async def test_a_verdict_is_kept_and_told_once(database: Database) -> None:
    bus, gates = MemoryBus(), SqlGates(database, encode=encoded_gate)
    gate = Gate(
        gate_id="gt-1",
        candidate_id="ca-1",
        scope="t/c",
        baseline_variant_id="v-1",
        candidate_variant_id="v-2",
        passed=True,
        checks=(Check(name="ndcg@10", dataset="g", passed=True, reason="better", difference=0.02),),
        reason="better",
        decided_at=AT,
    )
    assert await gates.decide(gate) == gate
    assert await gates.decide(replace(gate, passed=False)) == gate
    assert await gates.decided("gt-1") == gate
    await OutboxRelay(database, bus.publish_encoded).drain()
    assert [event.message.passed for event in bus.published(topics.EVALUATION_GATE_DECIDED)] == [True]


def exposure(answer: str, arm: str, unit: str, *, revision: int = 3) -> Exposure:
    return Exposure(
        tenant="t",
        answer_id=answer,
        experiment_id="ex",
        routing_revision=revision,
        arm=arm,
        unit=unit,
        served_at=AT,
        latency=timedelta(milliseconds=40),
        abstained=False,
    )


def opinion(feedback: str, answer: str, value: float | None, *, kind: str = "thumb", revision: int = 1) -> Opinion:
    return Opinion(
        feedback_id=feedback,
        revision=revision,
        tenant="t",
        answer_id=answer,
        asker="u1",
        kind=kind,
        value=value,
        experiment_id="ex",
        served_at=AT,
    )


async def test_an_answers_value_is_the_mean_of_its_kinds_and_a_persons_that_of_their_answers(
    database: Database,
) -> None:
    log, seen = SqlAnswerLog(database, encode=encoded_score), SqlObservations(database, encode=encoded_decision)
    shown = [exposure("a1", "control", "u1"), exposure("a2", "control", "u1"), exposure("a3", "treatment", "u2")]
    early = exposure("a0", "treatment", "u2", revision=2)
    for _ in range(2):  # told twice, counted once
        await log.record([(one, None) for one in (*shown, early)], [])
    opinions = [
        opinion("f1", "a1", 1.0, kind="citation"),
        opinion("f2", "a1", 0.0, kind="citation"),
        opinion("f3", "a1", 0.0),
        opinion("f4", "a2", 1.0),
        opinion("f5", "a3", 1.0),
        opinion("f5", "a3", None, revision=2),
    ]
    for _ in range(2):
        await seen.judge(opinions)
    people = {one.arm: one for one in (await seen.exposed("ex", since_revision=3, covariate=True)).people}
    assert people["control"].satisfaction == pytest.approx((0.25 + 1.0) / 2)
    assert people["control"].latency == pytest.approx(0.04)
    assert people["treatment"].satisfaction is None
    assert (await seen.exposed("ex", since_revision=4)).people == []


async def test_a_decision_is_kept_and_told_once_for_each_phase(database: Database) -> None:
    bus, seen = MemoryBus(), SqlObservations(database, encode=encoded_decision)
    one = Decision(
        experiment_id="ex",
        phase=Phase.CANARY,
        phase_revision=3,
        verb=Verb.CANARY_PASSED,
        arm="treatment",
        weights={},
        arms=[],
        reason="enough",
        decided_at=AT,
        discriminator="canary_passed:treatment",
    )
    assert await seen.decide(one)
    assert not await seen.decide(one)
    assert await seen.decide(replace(one, phase_revision=5))
    assert await seen.decisions("ex") == [one, replace(one, phase_revision=5)]
    await seen.look("ex", 3, 0.25)
    await seen.look("ex", 3, 0.5)
    assert await seen.looks("ex", 3) == [0.25, 0.5]
    await OutboxRelay(database, bus.publish_encoded).drain()
    assert len(bus.published(topics.EVALUATION_EXPERIMENT_DECIDED)) == 2


def test_rankings_are_scored_as_the_definitions_say() -> None:
    judge = LibraryJudge()
    found = judge.rankings({"q1": ["x", "d"], "q2": []}, {"q1": {"d": 1}, "q2": {"e": 1}, "q3": {"f": 1}})
    assert found["q1"]["ndcg@10"] == pytest.approx(0.6309, abs=1e-4)
    assert found["q1"]["mrr@10"] == 0.5
    assert set(found["q2"].values()) == set(found["q3"].values()) == {0.0}


def test_an_abstention_is_right_where_nothing_can_be_answered() -> None:
    judge, abstained = LibraryJudge(), Written(text="I do not know.", abstained=True)
    assert judge.answer(GOLDEN.questions[1], abstained, [])["abstention"] == 1.0
    asked = GoldenQuestion(question_id="q", text="?", answers=("Ada",))
    assert judge.answer(asked, abstained, [])["f1"] == 0.0
    assert judge.answer(asked, abstained, [])["abstention"] == 0.0


@pytest.mark.connected
async def test_candidates_are_gated_and_canaries_pass_on_a_real_broker(
    kafka: str, tmp_path: Path, unique: object
) -> None:
    assert callable(unique)
    candidate_id, experiment_id = unique("ca"), unique("ex")
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(Neighbours())
        settings = Settings(
            data=tmp_path, kafka=kafka, retrieval=world.address, generation=world.address, registry=world.address
        )
        process = Process(settings, name="evaluation")
        await process.start(build(settings, bus=KafkaBus(BusSettings(bootstrap=kafka))))
        stack.push_async_callback(process.stop)
        reader = KafkaBus(BusSettings(bootstrap=kafka))
        gates: list[GateDecided] = []
        decisions: list[ExperimentDecided] = []

        @reader.subscriber(topics.EVALUATION_GATE_DECIDED, group=unique("reader"))
        async def on_gate(records: Batch[GateDecided]) -> Outcome[GateDecided]:
            gates.extend(one.message for one in records if one.message.candidate_id == candidate_id)
            return records.outcome()

        @reader.subscriber(topics.EVALUATION_EXPERIMENT_DECIDED, group=unique("reader"))
        async def on_decision(records: Batch[ExperimentDecided]) -> Outcome[ExperimentDecided]:
            decisions.extend(one.message for one in records if one.message.experiment_id == experiment_id)
            return records.outcome()

        await reader.start()
        stack.push_async_callback(reader.stop)
        candidate = lineage_pb2.Candidate(
            candidate_id=candidate_id,
            scope="t/c",
            base=variant("v-1"),
            variant=variant("v-2", "rr-2"),
            state=lineage_pb2.CANDIDATE_STATE_TRAINED,
        )
        policy = loop_pb2.LoopPolicy(gate=loop_pb2.GateSpec(datasets=["missing"]))
        experiment = lineage_pb2.Experiment(
            experiment_id=experiment_id,
            arms=[
                lineage_pb2.Arm(name="control", variant_id="v-1", weight=5_000, control=True),
                lineage_pb2.Arm(name="treatment", variant_id="v-2", weight=5_000),
            ],
            phase=lineage_pb2.EXPERIMENT_PHASE_CANARY,
            phase_revision=2,
            canary=loop_pb2.CanaryPolicy(min_users=5),
        )
        answers = [
            AnswerServed(
                tenant="t",
                answer_id=f"{experiment_id}-{user}",
                user_id=f"u{user}",
                experiment_id=experiment_id,
                arm=("control", "treatment")[user % 2],
                routing_revision=2,
            )
            for user in range(12)
        ]
        await reader.publish(
            Event(
                topic=topics.REGISTRY_CANDIDATE_CHANGED,
                message=lineage_pb2.CandidateChanged(candidate=candidate, policy=policy),
                key=candidate_id,
            ),
            Event(
                topic=topics.REGISTRY_EXPERIMENT_CHANGED,
                message=lineage_pb2.ExperimentChanged(experiment=experiment),
                key=experiment_id,
            ),
            *(Event(topic=topics.GATEWAY_ANSWER_SERVED, message=one, key=f"t/{one.answer_id}") for one in answers),
        )
        await poll_until(lambda: gates and decisions, deadline=40)
        assert not gates[0].passed
        assert "no golden set" in gates[0].reason
        assert decisions[0].decision == DECISION_CANARY_PASSED
