"""Feedback in, loop policies in, candidates out."""

from __future__ import annotations

from anabranch import topics
from anabranch.feedback.v1.events_pb2 import RatingGiven
from anabranch.registry.v1.loop_pb2 import LoopChanged, LoopPolicy
from anabranch_bus import Batch, Bus, Encoded, Event, Outcome, derived_id
from anabranch_faults import Invalid
from anabranch_observability import counter, get_logger
from anabranch_observability.names import training as names
from anabranch_training.application.conducting import TakeFeedback
from anabranch_training.application.drifting import Readings
from anabranch_training.application.ports import LoopPolicies, Made
from anabranch_training.domain.ratings import Taken
from anabranch_training.domain.runs import Policy, Run
from anabranch_training.entrypoints.messages import candidate_message
from anabranch_training.entrypoints.ratings import shown_from, taken_from

__all__ = ["encoded", "policy_from", "register"]

log = get_logger()

_BATCH = 500


def register(bus: Bus, take: TakeFeedback, policies: LoopPolicies, readings: Readings) -> None:
    """Declares the handlers."""

    @bus.subscriber(topics.FEEDBACK_RATING_GIVEN, group="training", max_records=_BATCH)
    async def on_rating_given(records: Batch[RatingGiven]) -> Outcome[RatingGiven]:
        outcome = records.outcome()
        ratings = [(record.event_id, taken) for record, taken in outcome.parse(taken_from)]
        # First the readings: feedback that starts a run parts them.
        await readings.take([shown for record in records if (shown := shown_from(record.message)) is not None])
        await take(ratings)
        for _, taken in ratings:
            counter(names.FEEDBACK).labels(outcome=_said(taken)).inc()
        return outcome

    @bus.table(topics.REGISTRY_LOOP_CHANGED)
    async def on_loop_changed(scope: str, message: LoopChanged | None) -> None:
        try:
            policy = None if message is None else policy_from(message.policy)
        except Invalid as fault:
            log.error(names.Log.POLICY_REFUSED, scope=scope, problem=str(fault))  # noqa: TRY400  the sentence says it
            return
        policies.put(scope, policy)
        log.info(names.Log.POLICY_CHANGED, scope=scope, after_feedback=policy.after_feedback if policy else None)
        take.taken()


def policy_from(message: LoopPolicy) -> Policy:
    """What of a loop policy concerns training. Raises Invalid."""
    training, usual = message.training, Policy()
    return Policy(
        after_feedback=training.after_feedback,
        every=training.every.ToTimedelta() if training.HasField("every") else None,
        on_drift=training.on_drift,
        per_user_cap=training.per_user_cap or usual.per_user_cap,
        min_feedback=training.min_feedback or usual.min_feedback,
    )


def encoded(run: Run, made: Made) -> Encoded:
    """Return the event that tells a candidate. Its id follows from the run: told again, it is the same."""
    topic = topics.TRAINING_CANDIDATE_TRAINED
    return Event(
        topic=topic,
        message=candidate_message(run, made),
        key=run.scope,
        event_id=derived_id(run.run_id, topic.name),
    ).encode()


def _said(taken: Taken) -> str:
    if taken.withdrawn:
        return "withdrawn"
    if taken.denied:
        return "denied"
    return "usable" if taken.judgments else "unusable"
