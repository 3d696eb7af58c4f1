"""Events in: what was trained and decided. Events out: what holds now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from anabranch import topics
from anabranch.evaluation.v1 import events_pb2 as evaluation
from anabranch.gateway.v1.usage_pb2 import UsageMetered
from anabranch.registry.v1 import lineage_pb2 as lineage
from anabranch.registry.v1.guards_pb2 import PolicyChanged
from anabranch.registry.v1.prompts_pb2 import PromptChanged
from anabranch.training.v1.events_pb2 import CandidateTrained
from anabranch_bus import Batch, Bus, Encoded, Event, Outcome, derived_id
from anabranch_faults import Invalid, TooLarge
from anabranch_observability import get_logger
from anabranch_observability.names import registry as names
from anabranch_registry.application import Standing, TakeDecision, TakeGate, TakeTrained, TakeUsage, Told
from anabranch_registry.application.loop import ExperimentWasDecided, GateWasDecided, Trained
from anabranch_registry.domain import Routing
from anabranch_registry.domain.artifacts import Gate
from anabranch_registry.domain.experiments import Experiment, Phase
from anabranch_registry.domain.faults import Stale
from anabranch_registry.domain.guards import Attachment, GuardPolicy
from anabranch_registry.domain.policies import Loop
from anabranch_registry.domain.prompts import PromptLabel, StoredPrompt
from anabranch_registry.domain.spending import Price, Quota
from anabranch_registry.domain.stream.loop import Decision
from anabranch_registry.entrypoints.lineage import (
    candidate_changed,
    dataset_from,
    experiment_message,
    loop_message,
    model_from,
)
from anabranch_registry.entrypoints.messages import routing_message
from anabranch_registry.entrypoints.policies import attachment_message, guards_message
from anabranch_registry.entrypoints.prompts import label_message, prompt_message
from anabranch_registry.entrypoints.spending import price_message, quota_message, usage_from

__all__ = ["encoded", "register"]

log = get_logger()

GROUP: Final = "registry"
GATHER: Final = timedelta(milliseconds=500)
"""Nobody waits for the registry while answering, and every answer tells of calls: see `Bus.gather`."""
_HEADROOM: Final = 4_096


def register(bus: Bus, *, trained: TakeTrained, gate: TakeGate, decision: TakeDecision, usage: TakeUsage) -> None:
    """Declares what the registry reads."""
    bus.gather(GROUP, up_to=GATHER)

    @bus.subscriber(topics.TRAINING_CANDIDATE_TRAINED, group=GROUP)
    async def on_trained(records: Batch[CandidateTrained]) -> Outcome[CandidateTrained]:
        return await _each(records, lambda record: trained(_trained(record.message), event_id=record.event_id))

    @bus.subscriber(topics.EVALUATION_GATE_DECIDED, group=GROUP)
    async def on_gate(records: Batch[evaluation.GateDecided]) -> Outcome[evaluation.GateDecided]:
        return await _each(records, lambda record: gate(_gate(record.message), event_id=record.event_id))

    @bus.subscriber(topics.EVALUATION_EXPERIMENT_DECIDED, group=GROUP)
    async def on_decision(records: Batch[evaluation.ExperimentDecided]) -> Outcome[evaluation.ExperimentDecided]:
        return await _each(records, lambda record: decision(_decision(record.message), event_id=record.event_id))

    # Whole batches: a call of a model is one row and no decision.
    @bus.subscriber(topics.GATEWAY_USAGE_METERED, group=GROUP, max_records=500, max_wait=timedelta(milliseconds=100))
    async def on_usage(records: Batch[UsageMetered]) -> Outcome[UsageMetered]:
        outcome = records.outcome()
        calls = outcome.parse(lambda message: usage.check(usage_from(message)))
        if too_old := await usage([call for _, call in calls]):
            log.warning(names.Log.USAGE_IGNORED, topic=topics.GATEWAY_USAGE_METERED.name, calls=too_old)
        return outcome


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
        case Loop():
            return _Telling(
                topic=topics.REGISTRY_LOOP_CHANGED,
                message=loop_message(told),
                key=told.scope,
                version=f"{told.scope}@{told.revision}",
                time=told.change.at,
            )
        case _:
            return _governed(told)


def _governed(told: GuardPolicy | Attachment | StoredPrompt | PromptLabel | Quota | Price) -> _Telling:
    topic: Any
    message: Any
    match told:
        case GuardPolicy():
            topic, key = topics.REGISTRY_POLICY_CHANGED, f"version/{told.policy_version}"
            message, revision = PolicyChanged(policy=guards_message(told.document)), 1
        case Attachment():
            topic, key = topics.REGISTRY_POLICY_CHANGED, f"scope/{told.scope}"
            message, revision = PolicyChanged(attachment=attachment_message(told)), told.revision
        case StoredPrompt():
            one = told.template
            topic, key = topics.REGISTRY_PROMPT_CHANGED, f"prompt/{one.name}/{one.prompt_version}"
            message, revision = PromptChanged(prompt=prompt_message(one)), 1
        case PromptLabel():
            topic, key = topics.REGISTRY_PROMPT_CHANGED, f"label/{told.name}/{told.label}"
            message, revision = PromptChanged(label=label_message(told)), told.revision
        case Quota():
            topic, key = topics.REGISTRY_QUOTA_CHANGED, told.key
            message, revision = quota_message(told), told.revision
        case Price():
            topic, key = topics.REGISTRY_PRICE_CHANGED, told.key
            message, revision = price_message(told), told.revision
    return _Telling(topic=topic, message=message, key=key, version=f"{key}@{revision}", time=told.change.at)


def encoded(told: Told) -> Encoded:
    """Return the event that tells of something, under an id that is the same whenever it is told again.

    Raises TooLarge for what its topic does not take.
    """
    telling = _telling(told)
    event = Event(
        topic=telling.topic,
        message=telling.message,
        key=telling.key,
        event_id=derived_id(telling.version, telling.topic.name),
        time=telling.time,
    ).encode()
    # Raised while its transaction is open: what nobody could be told of is not decided.
    if len(event.value) > telling.topic.max_message_bytes - _HEADROOM:
        most = telling.topic.max_message_bytes - _HEADROOM
        raise TooLarge(f"{telling.key} has {len(event.value):,} bytes in all; the limit is {most:,}")
    return event
