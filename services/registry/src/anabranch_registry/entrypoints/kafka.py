"""Events in: what was trained and decided. Events out: what holds now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from anabranch import topics
from anabranch.evaluation.v1 import events_pb2 as evaluation
from anabranch.registry.v1 import lineage_pb2 as lineage
from anabranch.training.v1.events_pb2 import CandidateTrained
from anabranch_bus import Batch, Bus, Encoded, Event, Outcome, derived_id
from anabranch_faults import Invalid
from anabranch_observability import get_logger
from anabranch_observability.names import registry as names
from anabranch_registry.application import Standing, TakeDecision, TakeGate, TakeTrained, Told
from anabranch_registry.application.loop import ExperimentWasDecided, GateWasDecided, Trained
from anabranch_registry.domain import Routing
from anabranch_registry.domain.artifacts import Gate
from anabranch_registry.domain.experiments import Experiment, Phase
from anabranch_registry.domain.faults import Stale
from anabranch_registry.domain.stream.loop import Decision
from anabranch_registry.entrypoints.lineage import (
    candidate_changed,
    dataset_from,
    experiment_message,
    loop_message,
    model_from,
)
from anabranch_registry.entrypoints.messages import routing_message

__all__ = ["encoded", "register"]

log = get_logger()

GROUP: Final = "registry"


def register(bus: Bus, *, trained: TakeTrained, gate: TakeGate, decision: TakeDecision) -> None:
    """Declares what the registry reads."""

    @bus.subscriber(topics.TRAINING_CANDIDATE_TRAINED, group=GROUP)
    async def on_trained(records: Batch[CandidateTrained]) -> Outcome[CandidateTrained]:
        return await _each(records, lambda record: trained(_trained(record.message), event_id=record.event_id))

    @bus.subscriber(topics.EVALUATION_GATE_DECIDED, group=GROUP)
    async def on_gate(records: Batch[evaluation.GateDecided]) -> Outcome[evaluation.GateDecided]:
        return await _each(records, lambda record: gate(_gate(record.message), event_id=record.event_id))

    @bus.subscriber(topics.EVALUATION_EXPERIMENT_DECIDED, group=GROUP)
    async def on_decision(records: Batch[evaluation.ExperimentDecided]) -> Outcome[evaluation.ExperimentDecided]:
        return await _each(records, lambda record: decision(_decision(record.message), event_id=record.event_id))


async def _each(records: Batch[Any], take: Callable[[Any], Awaitable[object]]) -> Outcome[Any]:
    outcome = records.outcome()
    for record in records:
        try:
            await take(record)
        except Stale as fault:
            # Foreseen: the world moved on between the decision and now.
            log.info(names.Log.DECISION_IGNORED, topic=record.topic, key=record.key, problem=str(fault))
        except Invalid as fault:
            outcome.invalid(record, fault)
    return outcome


def _trained(message: CandidateTrained) -> Trained:
    if not message.run_id:
        raise Invalid("is missing", field="run_id", reason="MISSING")
    return Trained(
        run_id=message.run_id,
        scope=message.scope,
        model=model_from(message.model),
        dataset=dataset_from(message.dataset) if message.HasField("dataset") else None,
        author=message.author,
        reason=message.reason,
        withheld=message.withheld,
    )


def _gate(message: evaluation.GateDecided) -> GateWasDecided:
    if not message.gate_id:
        raise Invalid("is missing", field="gate_id", reason="MISSING")
    return GateWasDecided(
        gate=Gate(
            gate_id=message.gate_id,
            candidate_id=message.candidate_id,
            passed=message.passed,
            reason=message.reason,
            decided_at=(
                message.decided_at.ToDatetime(tzinfo=UTC) if message.HasField("decided_at") else datetime.now(UTC)
            ),
        ),
        scope=message.scope,
        baseline_variant_id=message.baseline_variant_id,
        candidate_variant_id=message.candidate_variant_id,
    )


def _decision(message: evaluation.ExperimentDecided) -> ExperimentWasDecided:
    decision = evaluation.Decision.Name(message.decision).removeprefix("DECISION_")
    phase = lineage.ExperimentPhase.Name(message.phase).removeprefix("EXPERIMENT_PHASE_")
    if decision not in set(Decision) or phase not in set(Phase):
        raise Invalid(f"{decision} in {phase} is no decision", field="decision", reason="UNKNOWN_DECISION")
    return ExperimentWasDecided(
        experiment_id=message.experiment_id,
        phase=Phase(phase),
        phase_revision=message.phase_revision,
        decision=Decision(decision),
        arm=message.arm,
        weights=dict(message.weights),
        reason=message.reason,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Telling:
    topic: Any
    message: Any
    key: str
    version: str
    time: datetime


def _telling(told: Told) -> _Telling:
    match told:
        case Routing():
            return _Telling(
                topic=topics.REGISTRY_ROUTING_CHANGED,
                message=routing_message(told),
                key=told.scope,
                version=f"{told.scope}@{told.revision}",
                time=told.change.at,
            )
        case Standing():
            one = told.candidate
            return _Telling(
                topic=topics.REGISTRY_CANDIDATE_CHANGED,
                message=candidate_changed(told),
                key=one.candidate_id,
                version=f"{one.candidate_id}@{one.revision}@{told.loop.scope}@{told.loop.revision}",
                time=one.changed_at,
            )
        case Experiment():
            return _Telling(
                topic=topics.REGISTRY_EXPERIMENT_CHANGED,
                message=lineage.ExperimentChanged(experiment=experiment_message(told)),
                key=told.experiment_id,
                version=f"{told.experiment_id}@{told.revision}",
                time=told.phase_started_at,
            )
        case _:
            return _Telling(
                topic=topics.REGISTRY_LOOP_CHANGED,
                message=loop_message(told),
                key=told.scope,
                version=f"{told.scope}@{told.revision}",
                time=told.change.at,
            )


def encoded(told: Told) -> Encoded:
    """Return the event that tells of something, under an id that is the same whenever it is told again."""
    telling = _telling(told)
    return Event(
        topic=telling.topic,
        message=telling.message,
        key=telling.key,
        event_id=derived_id(telling.version, telling.topic.name),
        time=telling.time,
    ).encode()
