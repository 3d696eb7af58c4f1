"""The keeper of feedback, over gRPC."""

from __future__ import annotations

from datetime import UTC
from typing import Any, Final

import grpc

from anabranch.feedback.v1 import feedback_service_pb2 as pb
from anabranch.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_faults import Conflict, Denied, Invalid, Overloaded
from anabranch_gateway.adapters.faults import meaning
from anabranch_gateway.domain.feedback import Feedback, Given, TooOften
from anabranch_rpc import fault_from

# What the gateway sets by itself: a refusal of it is the platform's fault, not the caller's.
OURS: Final = frozenset({"tenant", "event_id"})


class GrpcFeedbacks:
    """FeedbackService as the Feedbacks port. The opinion is the contract's own message."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """Takes a channel of `anabranch_rpc.connect`, which passes deadline and cancellation on."""
        self._stub = FeedbackServiceStub(channel)

    async def give(self, tenant: str, feedback: Feedback, *, event_id: str) -> Given:
        """See the port."""
        # The opinion is a message of the caller's, read from the oneof field that `kind` names.
        opinion: dict[str, Any] = {feedback.kind: feedback.opinion}
        given = upstream.FeedbackGiven(
            tenant=tenant,
            answer_id=feedback.answer_id,
            user_id=feedback.user_id,
            comment=feedback.comment,
            consent=upstream.Consent.ValueType(feedback.consent),
            **opinion,
        )
        if feedback.given_at is not None:
            given.given_at.FromDatetime(feedback.given_at.astimezone(UTC))
        try:
            reply = await self._stub.Give(pb.GiveRequest(given=given, event_id=event_id))
        except grpc.aio.AioRpcError as error:
            raise _meaning(error) from error
        return Given(
            feedback_id=reply.feedback_id,
            revision=reply.revision,
            joined=reply.state == pb.JOIN_STATE_JOINED,
        )


def _meaning(error: grpc.aio.AioRpcError) -> Exception:
    """As `meaning`, but what feedback says of the caller's own fields is the caller's to know."""
    fault = fault_from(error)
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return TooOften(fault.problem, retry_after=fault.retry_after if isinstance(fault, Overloaded) else None)
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT and isinstance(fault, Invalid):
        field = fault.field.removeprefix("given.")
        if field and field not in OURS and not isinstance(fault, Conflict | Denied):
            return type(fault)(fault.problem, field=field, reason=fault.reason)
    return meaning(error)
