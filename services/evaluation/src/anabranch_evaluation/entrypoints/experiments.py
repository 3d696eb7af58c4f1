"""Experiments, exposures and opinions between messages and the domain."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from google.protobuf.duration_pb2 import Duration

from anabranch.evaluation.v1 import events_pb2 as events
from anabranch.feedback.v1.events_pb2 import RatingGiven
from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch.guardrails.v1 import events_pb2 as guardrails
from anabranch.registry.v1 import lineage_pb2, loop_pb2
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_evaluation.application.observing import Context, ScoredAnswer, Served
from anabranch_evaluation.domain import satisfaction
from anabranch_evaluation.domain.costs import usage_of
from anabranch_evaluation.domain.experiments import (
    Arm,
    ArmSummary,
    Decision,
    Experiment,
    ExperimentDesign,
    Exposure,
    Guard,
    Opinion,
    Phase,
    Verb,
    unit_of,
)
from anabranch_evaluation.domain.statistics import Mode, PromoteWhen
from anabranch_evaluation.entrypoints.messages import finite, timestamp
from anabranch_faults import Invalid
from anabranch_grounding import Support

_PHASES: Final = {
    lineage_pb2.EXPERIMENT_PHASE_CANARY: Phase.CANARY,
    lineage_pb2.EXPERIMENT_PHASE_RUNNING: Phase.RUNNING,
    lineage_pb2.EXPERIMENT_PHASE_HOLDOUT: Phase.HOLDOUT,
    lineage_pb2.EXPERIMENT_PHASE_STOPPED: Phase.STOPPED,
}
_OF_PHASE: Final = {phase: message for message, phase in _PHASES.items()}
_MODES: Final = {
    loop_pb2.DECISION_MODE_UNSPECIFIED: Mode.ANYTIME,
    loop_pb2.DECISION_MODE_ANYTIME: Mode.ANYTIME,
    loop_pb2.DECISION_MODE_GROUP_SEQUENTIAL: Mode.GROUP_SEQUENTIAL,
    loop_pb2.DECISION_MODE_BANDIT: None,
}
_OF_VERB: Final = {
    Verb.CANARY_PASSED: events.DECISION_CANARY_PASSED,
    Verb.PROMOTE: events.DECISION_PROMOTE,
    Verb.KEEP_CONTROL: events.DECISION_KEEP_CONTROL,
    Verb.STOP_ARM: events.DECISION_STOP_ARM,
    Verb.SAMPLE_RATIO_MISMATCH: events.DECISION_SAMPLE_RATIO_MISMATCH,
    Verb.REWEIGH: events.DECISION_REWEIGH,
}


def experiment_from(message: lineage_pb2.Experiment) -> Experiment:
    """An experiment with the contract's defaults. Raises Invalid for one that cannot be watched."""
    if message.phase not in _PHASES:
        raise Invalid("is none that is known", field="experiment.phase")
    if sum(arm.control for arm in message.arms) != 1:
        raise Invalid("must hold exactly one control", field="experiment.arms")
    design, canary = message.design, message.canary
    if design.mode == loop_pb2.DECISION_MODE_GROUP_SEQUENTIAL and not design.horizon:
        raise Invalid("is 0: a group-sequential experiment needs its horizon", field="experiment.design.horizon")
    superior = design.promote_when == loop_pb2.PROMOTE_WHEN_SUPERIOR or (
        design.promote_when == loop_pb2.PROMOTE_WHEN_UNSPECIFIED and not message.candidate_id
    )
    started = message.phase_started_at.ToDatetime(UTC) if message.HasField("phase_started_at") else None
    return Experiment(
        experiment_id=message.experiment_id,
        arms=tuple(
            Arm(name=arm.name, weight=arm.weight, control=arm.control, stopped=arm.stopped) for arm in message.arms
        ),
        phase=_PHASES[message.phase],
        phase_revision=message.phase_revision,
        phase_started_at=started,
        arms_revision=_arms_revision(message),
        design=ExperimentDesign(
            mode=_MODES.get(design.mode, Mode.ANYTIME),
            metric=design.metric or "satisfaction",
            alpha=design.alpha or 0.05,
            promote_when=PromoteWhen.SUPERIOR if superior else PromoteWhen.NOT_WORSE,
            margin=design.margin or 0.05,
            horizon=design.horizon,
            looks=design.looks or 10,
            min_users=design.min_users or 50,
            max_users=design.max_users,
            max_duration=design.max_duration.ToTimedelta() if design.HasField("max_duration") else None,
            guards=tuple(_guard(one) for one in design.guards),
            minimum_share=design.minimum_share or 0.05,
            covariate=design.covariate,
        ),
        canary_users=canary.min_users or 20,
        canary_at_least=canary.at_least.ToTimedelta(),
        holdout_guards=tuple(_guard(one) for one in message.holdout.guards),
        message=message,
    )


def _withheld(message: AnswerServed) -> set[int]:
    """Places of passages that guardrails kept from the model: the answer is not drawn from them."""
    stops = (guardrails.VERDICT_BLOCK, guardrails.VERDICT_REVIEW)
    guards = (one for one in message.guards if one.HasField("passage") and not one.shadow)
    return {one.passage for one in guards if one.verdict in stops}


def served_from(message: AnswerServed) -> Served:
    """An answer as served. Raises Invalid for one that names nothing."""
    for field in ("tenant", "answer_id"):
        if not getattr(message, field):
            raise Invalid("is empty", field=field)
    served_at = message.served_at.ToDatetime(UTC) if message.HasField("served_at") else datetime.now(UTC)
    blocked = message.finish_reason == generation.FINISH_REASON_BLOCKED
    withheld = _withheld(message)
    exposure = None
    if message.experiment_id and message.arm:
        exposure = Exposure(
            tenant=message.tenant,
            answer_id=message.answer_id,
            experiment_id=message.experiment_id,
            routing_revision=message.routing_revision,
            arm=message.arm,
            unit=unit_of(message.tenant, user=message.user_id, session=message.session_id, answer=message.answer_id),
            served_at=served_at,
            latency=message.timings.total.ToTimedelta(),
            abstained=message.abstained,
            blocked=blocked,
        )
    return Served(
        tenant=message.tenant,
        answer_id=message.answer_id,
        corpus=message.corpus,
        variant_id=message.variant_id,
        experiment_id=message.experiment_id,
        arm=message.arm,
        user_id=message.user_id,
        # What was blocked is no answer, well or badly borne out.
        readable=message.has_content and not blocked,
        question=message.question,
        answer=message.answer,
        abstained=message.abstained,
        contexts=[
            Context(chunk_id=one.chunk_id, text=one.text)
            for place, one in enumerate(message.passages)
            if place not in withheld
        ],
        cited=[one.text for one in message.citations if one.text],
        latency=message.timings.total.ToTimedelta(),
        exposure=exposure,
        usage=usage_of(
            prompt_tokens=message.usage.prompt_tokens,
            completion_tokens=message.usage.completion_tokens,
            model=message.model,
            backend=message.backend,
            charged=_charged(message),
        ),
    )


def _charged(message: AnswerServed) -> int | None:
    # Free because the backend runs on own machines is no price: such answers are compared by their tokens.
    if message.HasField("cost_micros") and (message.cost_micros or message.cached_from):
        return message.cost_micros
    return None


def opinion_from(message: RatingGiven) -> Opinion:
    """What a feedback says of its answer. Raises Invalid for one that names nothing."""
    for field in ("feedback_id", "tenant", "answer_id"):
        if not getattr(message, field):
            raise Invalid("is empty", field=field)
    cause = message.cause
    kind, value = ("", None) if message.withdrawn else _value(message.given)
    known = cause.asked_by and not message.withdrawn
    return Opinion(
        feedback_id=message.feedback_id,
        revision=message.revision,
        tenant=message.tenant,
        answer_id=message.answer_id,
        asker=unit_of(message.tenant, user=cause.asked_by, session="", answer="") if known else "",
        kind=kind,
        value=value,
        experiment_id=cause.experiment_id,
        served_at=cause.served_at.ToDatetime(UTC) if cause.HasField("served_at") else None,
    )


def decision_message(decision: Decision) -> events.ExperimentDecided:
    """A decision."""
    return events.ExperimentDecided(
        experiment_id=decision.experiment_id,
        phase=_OF_PHASE[decision.phase],
        phase_revision=decision.phase_revision,
        decision=_OF_VERB[decision.verb],
        arm=decision.arm,
        weights=dict(decision.weights),
        arms=[summary_message(one) for one in decision.arms],
        reason=decision.reason,
        decided_at=timestamp(decision.decided_at),
    )


def summary_message(one: ArmSummary) -> events.ArmSummary:
    """An arm as measured."""
    return events.ArmSummary(
        arm=one.arm,
        exposed_users=one.exposed,
        measured_users=one.measured,
        mean=one.mean,
        difference=one.difference,
        low=finite(one.low),
        high=finite(one.high),
        probability_best=one.probability_best,
        guards=dict(one.guards),
        mixed_users=one.mixed,
        unmeasured_guards=one.unmeasured,
    )


def support_message(one: Support, chunk_id: str = "") -> events.SentenceSupport:
    """How well one sentence is supported."""
    return events.SentenceSupport(
        text=one.text, support=one.support, chunk_id=chunk_id, contradictions=one.contradictions
    )


def scored_message(scored: ScoredAnswer) -> events.AnswerScored:
    """An answer's live scores."""
    served, latency = scored.served, Duration()
    paid = scored.cost.microdollars if scored.cost is not None else None
    latency.FromTimedelta(served.latency)
    return events.AnswerScored(
        tenant=served.tenant,
        answer_id=served.answer_id,
        corpus=served.corpus,
        variant_id=served.variant_id,
        experiment_id=served.experiment_id,
        arm=served.arm,
        user_id=served.user_id,
        scores=dict(scored.found.scores),
        sentences=[
            support_message(one, served.contexts[one.passage].chunk_id if one.passage >= 0 else "")
            for one in scored.found.sentences
        ],
        latency=latency,
        cost_microdollars=round(paid or 0),
        has_cost=paid is not None,
        scorer_version=scored.found.version,
        scored_at=timestamp(scored.scored_at),
    )


def _arms_revision(message: lineage_pb2.Experiment) -> int:
    """Of the routing that dealt by these weights. Where none was told: that of the phase, if no arm was stopped."""
    if message.arms_revision or any(arm.stopped for arm in message.arms):
        return message.arms_revision
    return message.phase_revision


def _guard(message: loop_pb2.GuardMetric) -> Guard:
    return Guard(metric=message.metric, max_ratio=message.max_ratio, max_loss=message.max_loss)


def _value(given: upstream.FeedbackGiven) -> tuple[str, float | None]:
    """The kind, and what it says of satisfaction; None for a kind that says nothing."""
    match given.WhichOneof("kind"):
        case "thumb":
            return "thumb", satisfaction.of_thumb(up=given.thumb.up)
        case "rating":
            return "rating", satisfaction.of_stars(given.rating.stars)
        case "citation":
            return "citation", satisfaction.of_citation(relevant=given.citation.relevant)
        case "implicit" if given.implicit.sign == upstream.SIGN_TASK_DONE:
            return "task_done", 1.0
        case "implicit" if given.implicit.sign == upstream.SIGN_ASKED_AGAIN:
            return "asked_again", 0.0
        case kind:
            return str(kind or ""), None
