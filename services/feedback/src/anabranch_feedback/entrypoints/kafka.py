"""Events in: a batch, a fate per record, nothing else; and the events that go out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from anabranch import topics
from anabranch.evaluation.v1.events_pb2 import AnswerScored
from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch.upstream.v1.feedback_pb2 import FeedbackGiven
from anabranch_bus import Batch, Bus, Encoded, Event, Outcome, Record, Unreadable, derived_id
from anabranch_feedback import messages
from anabranch_feedback.application.answering import RecordAnswers
from anabranch_feedback.application.ports import Feedback, Rejection
from anabranch_feedback.application.sampling import SampleScored
from anabranch_feedback.application.taking import Arrival, TakeFeedback
from anabranch_feedback.domain.refusals import Refusal, Refused

__all__ = ["GROUP", "encoded", "register"]

GROUP: Final = "feedback"
GATHER: Final = timedelta(milliseconds=500)
"""Nobody waits for this service while answering, so what comes singly waits for company: see `Bus.gather`."""
_GIVEN = topics.FEEDBACK_RATING_GIVEN
_REJECTED = topics.FEEDBACK_RATING_REJECTED


def register(
    bus: Bus, *, take: TakeFeedback, record_answers: RecordAnswers, sample_scored: SampleScored, max_records: int
) -> None:
    """Declares what the service reads."""
    bus.gather(GROUP, up_to=GATHER)

    async def on_unreadable(record: Unreadable) -> Sequence[Event]:
        tenant, _, answer_id = record.key.partition("/")
        rejection = Rejection(
            tenant=tenant,
            answer_id=answer_id,
            user_id="",
            event_id=record.event_id,
            refusal=Refusal.INVALID,
            reason=f"the record is not a FeedbackGiven: {record.problem}",
            at=record.time,
        )
        return [record.answer(_REJECTED, messages.rating_rejected(rejection), key=record.key)]

    @bus.subscriber(topics.UPSTREAM_FEEDBACK_GIVEN, group=GROUP, max_records=max_records, unreadable=on_unreadable)
    async def on_feedback_given(records: Batch[FeedbackGiven]) -> Outcome[FeedbackGiven]:
        outcome = records.outcome()
        settled = await take.batch([_arrival(record) for record in records])
        for record, one in zip(records, settled, strict=True):
            if one.told is not None:
                outcome.publish(_GIVEN, messages.rating_given(one.told), key=_key(one.told), caused_by=record)
            elif one.fault is not None:
                message = messages.rating_rejected(_rejection(record, one.fault))
                outcome.publish(_REJECTED, message, key=record.key, caused_by=record)
        return outcome

    @bus.subscriber(topics.GATEWAY_ANSWER_SERVED, group=GROUP, max_records=max_records)
    async def on_answer_served(records: Batch[AnswerServed]) -> Outcome[AnswerServed]:
        outcome = records.outcome()
        await record_answers([answer for _, answer in outcome.parse(messages.answer_from)])
        return outcome

    @bus.subscriber(topics.EVALUATION_ANSWER_SCORED, group=GROUP, max_records=max_records)
    async def on_answer_scored(records: Batch[AnswerScored]) -> Outcome[AnswerScored]:
        outcome = records.outcome()
        await sample_scored([scored for _, scored in outcome.parse(messages.scored_from)])
        return outcome


def encoded(told: Feedback | Rejection) -> Encoded:
    """The event that tells a revision or a refusal, for the outbox. Told again, it has the same id."""
    if isinstance(told, Rejection):
        return Event(
            topic=_REJECTED,
            message=messages.rating_rejected(told),
            key=f"{told.tenant}/{told.answer_id}",
            event_id=derived_id(told.event_id, _REJECTED.name),
            caused_by=told.event_id,
        ).encode()
    return Event(
        topic=_GIVEN,
        message=messages.rating_given(told),
        key=_key(told),
        event_id=derived_id(f"{told.feedback_id}@{told.revision}", _GIVEN.name),
        caused_by=told.event_id,
    ).encode()


def _arrival(record: Record[FeedbackGiven]) -> Arrival:
    tenant = record.message.tenant
    try:
        given = messages.given_from(record.message, record_key=record.key)
    except Refused as fault:
        return Arrival(tenant=tenant, event_id=record.event_id, fault=fault, at=record.time)
    return Arrival(tenant=tenant, event_id=record.event_id, given=given, at=record.time)


def _rejection(record: Record[FeedbackGiven], fault: Refused) -> Rejection:
    return Rejection(
        tenant=record.message.tenant,
        answer_id=record.message.answer_id,
        user_id=record.message.user_id,
        event_id=record.event_id,
        refusal=fault.why,
        reason=str(fault),
        at=datetime.now(UTC),
    )


def _key(row: Feedback) -> str:
    return f"{row.tenant}/{row.answer_id}"
