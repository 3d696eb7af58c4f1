"""A stand-in for the feedback service."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from anabranch.feedback.v1 import feedback_service_pb2 as pb
from anabranch.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceServicer
from anabranch_gateway.testing.calls import Calls

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class FakeFeedback(FeedbackServiceServicer):
    """Takes all feedback; `fault` makes it fail, `joined` tells whether the answer's record is there."""

    def __init__(self) -> None:
        """Starts anew."""
        self.renew()

    def renew(self) -> None:
        """Has seen no feedback."""
        self.give = Calls()
        self.joined = True
        self.fault: Exception | None = None

    async def Give(self, request: pb.GiveRequest, context: Context) -> pb.GiveResponse:  # noqa: ARG002, N802  the contract's name and signature
        """A number for each."""
        self.give.note(request)
        if self.fault is not None:
            raise self.fault
        state = pb.JOIN_STATE_JOINED if self.joined else pb.JOIN_STATE_WAITING
        return pb.GiveResponse(feedback_id=f"f-{self.give.begun}", revision=self.give.begun, state=state)

    async def GetAnswer(self, request: Any, context: Context) -> Any:  # noqa: N802  the contract's name
        """Not the gateway's."""
        raise NotImplementedError

    async def ListAnswers(self, request: Any, context: Context) -> Any:  # noqa: N802  the contract's name
        """Not the gateway's."""
        raise NotImplementedError

    async def ExportRatings(self, request: Any, context: Context) -> Any:  # noqa: N802  the contract's name
        """Not the gateway's."""
        raise NotImplementedError

    async def CountFeedback(self, request: Any, context: Context) -> Any:  # noqa: N802  the contract's name
        """Not the gateway's."""
        raise NotImplementedError

    async def EraseUser(self, request: Any, context: Context) -> Any:  # noqa: N802  the contract's name
        """Not the gateway's."""
        raise NotImplementedError

    async def ListReviews(self, request: Any, context: Context) -> Any:  # noqa: N802  the contract's name
        """Not the gateway's."""
        raise NotImplementedError

    async def SubmitReview(self, request: Any, context: Context) -> Any:  # noqa: N802  the contract's name
        """Not the gateway's."""
        raise NotImplementedError

    async def GetAgreement(self, request: Any, context: Context) -> Any:  # noqa: N802  the contract's name
        """Not the gateway's."""
        raise NotImplementedError
