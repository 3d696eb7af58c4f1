"""What is heard and told: candidates, experiments, answers and opinions in; verdicts, decisions and scores out."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Final

from anabranch import topics
from anabranch.evaluation.v1.events_pb2 import AnswerScored
from anabranch.feedback.v1.events_pb2 import RatingGiven
from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch.registry.v1.lineage_pb2 import CandidateChanged, ExperimentChanged
from anabranch_bus import Batch, Bus, Encoded, Event, Outcome, derived_id
from anabranch_evaluation.application.cascading import Explorations
from anabranch_evaluation.application.gating import DecideGates
from anabranch_evaluation.application.observing import ObserveAnswers, ScoredAnswer
from anabranch_evaluation.application.watching import WatchExperiments
from anabranch_evaluation.domain.experiments import Decision
from anabranch_evaluation.domain.gates import Gate
from anabranch_evaluation.domain.judging import Judgment
from anabranch_evaluation.entrypoints.cascades import explorations_from
from anabranch_evaluation.entrypoints.experiments import (
    decision_message,
    experiment_from,
    opinion_from,
    scored_message,
    served_from,
)
from anabranch_evaluation.entrypoints.judgments import judgment_message
from anabranch_evaluation.entrypoints.messages import candidacy_from, gate_message

__all__ = ["encoded_decision", "encoded_gate", "encoded_judged", "encoded_score", "register"]

GROUP: Final = "evaluation"
GATHER: Final = timedelta(milliseconds=500)
"""Nobody waits for this service while answering, so what comes singly waits for company: see `Bus.gather`."""
GATE_TAKES: Final = timedelta(minutes=30)
"""A gate over a large golden set is long work, not a stuck handler."""
BATCH: Final = 256


def register(
    bus: Bus, *, decide: DecideGates, watch: WatchExperiments, observe: ObserveAnswers, explorations: Explorations
) -> None:
    """Declares the handlers."""
    bus.gather(GROUP, up_to=GATHER)

    @bus.subscriber(topics.REGISTRY_CANDIDATE_CHANGED, group=GROUP, max_records=1, stuck_after=GATE_TAKES)
    async def on_candidate_changed(records: Batch[CandidateChanged]) -> Outcome[CandidateChanged]:
        outcome = records.outcome()
        for _, candidacy in outcome.parse(candidacy_from):
            if candidacy is not None:
                await decide.candidate(candidacy)
        return outcome

    @bus.table(topics.REGISTRY_EXPERIMENT_CHANGED)
    async def on_experiment_changed(experiment_id: str, message: ExperimentChanged | None) -> None:
        if message is None:
            watch.drop(experiment_id)
        else:
            watch.put(experiment_from(message.experiment))

    @bus.subscriber(topics.GATEWAY_ANSWER_SERVED, group=GROUP, max_records=BATCH)
    async def on_answer_served(records: Batch[AnswerServed]) -> Outcome[AnswerServed]:
        outcome = records.outcome()
        parsed = outcome.parse(served_from)
        await observe([served for _, served in parsed])
        await explorations.keep(explorations_from([record.message for record, _ in parsed]))
        return outcome

    @bus.subscriber(topics.FEEDBACK_RATING_GIVEN, group=GROUP, max_records=BATCH)
    async def on_rating_given(records: Batch[RatingGiven]) -> Outcome[RatingGiven]:
        outcome = records.outcome()
        await watch.observations.judge([opinion for _, opinion in outcome.parse(opinion_from)])
        return outcome


def encoded_gate(gate: Gate) -> Encoded:
    """Return the event that tells a verdict. Its id follows from the gate's: told again, it is the same."""
    topic = topics.EVALUATION_GATE_DECIDED
    return Event(
        topic=topic,
        message=gate_message(gate),
        key=gate.candidate_id or gate.gate_id,
        event_id=derived_id(gate.gate_id, topic.name),
        time=gate.decided_at,
    ).encode()


def encoded_decision(decision: Decision) -> Encoded:
    """Return the event that tells a decision. Its id follows from experiment, phase and discriminator."""
    topic = topics.EVALUATION_EXPERIMENT_DECIDED
    place = f"{decision.experiment_id}@{decision.phase_revision}"
    return Event(
        topic=topic,
        message=decision_message(decision),
        key=decision.experiment_id,
        event_id=derived_id(place, topic.name, decision.discriminator),
        time=decision.decided_at,
    ).encode()


def encoded_score(scored: ScoredAnswer) -> Encoded:
    """Return the event that tells an answer's scores. Its id follows from the answer's."""
    return _encoded(scored_message(scored))


def encoded_judged(kept: bytes, judgment: Judgment | None) -> Encoded:
    """Return the event that tells an answer's scores, as they were kept, with what the judge said of it."""
    message = AnswerScored.FromString(kept)
    said = judgment_message(judgment)
    if said is not None:
        message.judgment.CopyFrom(said)
    return _encoded(message)


def _encoded(message: AnswerScored) -> Encoded:
    topic = topics.EVALUATION_ANSWER_SCORED
    key = f"{message.tenant}/{message.answer_id}"
    return Event(
        topic=topic,
        message=message,
        key=key,
        event_id=derived_id(key, topic.name),
        time=message.scored_at.ToDatetime(UTC),
    ).encode()
