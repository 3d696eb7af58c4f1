"""FeedbackService: parse, call, answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeAlias
from uuid import uuid4

import grpc

from anabranch.feedback.v1 import events_pb2 as events
from anabranch.feedback.v1 import feedback_service_pb2 as pb
from anabranch.feedback.v1 import feedback_service_pb2_grpc as stubs
from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch_faults import Invalid, NotFound, Overloaded
from anabranch_feedback import messages
from anabranch_feedback.application.erasing import EraseUser
from anabranch_feedback.application.ports import Channel
from anabranch_feedback.application.reading import AnswerFilter, Exported, Line, RatingFilter, Read, ReviewItem
from anabranch_feedback.application.reviewing import GetAgreement, SubmitReview
from anabranch_feedback.application.taking import Arrival, Settled, State, TakeFeedback
from anabranch_feedback.domain.refusals import Refusal, Refused
from anabranch_observability import get_logger
from anabranch_observability.names import feedback as names
from anabranch_rpc import Servicer

__all__ = ["RateLimited", "UseCases", "servicer"]

log = get_logger()

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_EVENT_ID: Final = 200


class RateLimited(Overloaded):
    """A person gave too much."""

    reason = "RATE_LIMITED"


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """What can be asked of the service."""

    take: TakeFeedback
    read: Read
    erase: EraseUser
    submit: SubmitReview
    agreement: GetAgreement
    raters: int


class FeedbackServicer(stubs.FeedbackServiceServicer):
    """Internal; the gateway sets the tenant."""

    def __init__(self, use: UseCases) -> None:
        """Takes the use cases."""
        self._use = use

    async def Give(self, request: pb.GiveRequest, context: Context) -> pb.GiveResponse:  # noqa: ARG002, N802  the contract's signature
        """Store a feedback."""
        given = messages.given_from(request.given)
        arrival = Arrival(tenant=given.tenant, event_id=_event_id(request.event_id), given=given)
        try:
            settled = await self._use.take.one(arrival, Channel.GRPC)
        except Refused as fault:
            raise _fault(fault) from fault
        return pb.GiveResponse(feedback_id=settled.feedback_id, revision=settled.revision, state=_join_state(settled))

    async def GetAnswer(self, request: pb.GetAnswerRequest, context: Context) -> pb.GetAnswerResponse:  # noqa: ARG002, N802  the contract's signature
        """An answer and what people made of it."""
        stored, feedback = await self._use.read.answer(request.tenant, request.answer_id)
        return pb.GetAnswerResponse(
            answer=AnswerServed.FromString(stored.record),
            cause=events.Cause.FromString(stored.cause),
            feedback=[messages.rating_given(row) for row in feedback],
        )

    async def ListAnswers(self, request: pb.ListAnswersRequest, context: Context) -> pb.ListAnswersResponse:  # noqa: ARG002, N802  the contract's signature
        """Answers by what they were drawn from or who asked."""
        which = AnswerFilter(
            tenant=request.tenant,
            corpus=request.corpus,
            document_id=request.document_id,
            user_id=request.user_id,
            variant_id=request.variant_id,
        )
        page, following = await self._use.read.answers(
            which, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListAnswersResponse(answers=[_summary(line) for line in page], next_page_token=following)

    async def ExportRatings(self, request: pb.ExportRatingsRequest, context: Context) -> pb.ExportRatingsResponse:  # noqa: ARG002, N802  the contract's signature
        """Joined feedback in the order it was joined."""
        which = RatingFilter(
            tenant=request.tenant,
            corpus=request.corpus,
            since=messages.time_of(request.since, field="since") if request.HasField("since") else None,
            until=messages.time_of(request.until, field="until") if request.HasField("until") else None,
        )
        page, following = await self._use.read.ratings(
            which, page_size=request.page_size, page_token=request.page_token, with_content=request.with_content
        )
        return pb.ExportRatingsResponse(ratings=[_exported(one) for one in page], next_page_token=following)

    async def CountFeedback(self, request: pb.CountFeedbackRequest, context: Context) -> pb.CountFeedbackResponse:  # noqa: ARG002, N802  the contract's signature
        """Counts."""
        since = messages.time_of(request.since, field="since") if request.HasField("since") else None
        counts = await self._use.read.count(request.tenant, request.corpus, since)
        return pb.CountFeedbackResponse(
            counts=[pb.FeedbackCount(kind=kind, count=count) for kind, count in counts.kinds.items()],
            users=counts.users,
            answers=counts.answers,
            waiting=counts.waiting,
            rejected=counts.rejected,
            first_at=messages.stamp(counts.first_at) if counts.first_at else None,
            last_at=messages.stamp(counts.last_at) if counts.last_at else None,
        )

    async def EraseUser(self, request: pb.EraseUserRequest, context: Context) -> pb.EraseUserResponse:  # noqa: ARG002, N802  the contract's signature
        """Forget a person."""
        if not request.tenant or not request.user_id:
            raise Invalid("is empty", field="user_id" if request.tenant else "tenant")
        erased = await self._use.erase(request.tenant, request.user_id)
        log.info(names.Log.USER_ERASED, tenant=request.tenant, feedbacks=erased.feedbacks, answers=erased.answers)
        return pb.EraseUserResponse(feedbacks=erased.feedbacks, answers=erased.answers)

    async def ListReviews(self, request: pb.ListReviewsRequest, context: Context) -> pb.ListReviewsResponse:  # noqa: ARG002, N802  the contract's signature
        """A rater's next pieces of work."""
        items = await self._use.read.reviews(
            request.tenant, request.corpus, request.rater_id, wanted=self._use.raters, limit=request.limit
        )
        return pb.ListReviewsResponse(items=[_review(item) for item in items])

    async def SubmitReview(self, request: pb.SubmitReviewRequest, context: Context) -> pb.SubmitReviewResponse:  # noqa: ARG002, N802  the contract's signature
        """A rater's judgment."""
        try:
            settled = await self._use.submit(
                tenant=request.tenant,
                review_id=request.review_id,
                rater_id=request.rater_id,
                review=messages.review_from(request.review),
                comment=request.comment,
                event_id=_event_id(""),
            )
        except Refused as fault:
            raise _fault(fault) from fault
        return pb.SubmitReviewResponse(feedback_id=settled.feedback_id)

    async def GetAgreement(self, request: pb.GetAgreementRequest, context: Context) -> pb.GetAgreementResponse:  # noqa: ARG002, N802  the contract's signature
        """How far raters agree."""
        found = await self._use.agreement(request.tenant, request.corpus)
        return pb.GetAgreementResponse(
            kappa=found.kappa,
            weighted_kappa=found.weighted,
            kappa_low=found.low,
            kappa_high=found.high,
            answers=found.answers,
            raters=found.raters,
        )


def servicer(use: UseCases) -> Servicer:
    """Return the service for a server."""
    return Servicer(
        FeedbackServicer(use),
        add=stubs.add_FeedbackServiceServicer_to_server,
        name="anabranch.feedback.v1.FeedbackService",
    )


def _event_id(given: str) -> str:
    if len(given) > _EVENT_ID:
        raise Invalid(f"has {len(given):,} characters: at most {_EVENT_ID}", field="event_id")
    return given or str(uuid4())


def _fault(fault: Refused) -> Exception:
    """The fault with which callers are told."""
    if fault.why is Refusal.RATE_LIMITED:
        return RateLimited(str(fault), retry_after=timedelta(seconds=10))
    if fault.why in (Refusal.UNKNOWN_ANSWER, Refusal.UNKNOWN_TENANT):
        return NotFound(fault.problem, field=fault.field, reason=fault.reason)
    return fault


def _join_state(settled: Settled) -> pb.JoinState.ValueType:
    return pb.JOIN_STATE_WAITING if settled.state is State.WAITING else pb.JOIN_STATE_JOINED


def _summary(line: Line) -> pb.AnswerSummary:
    record = AnswerServed.FromString(line.record)
    return pb.AnswerSummary(
        answer_id=line.answer_id,
        corpus=line.corpus,
        question=record.question,
        variant_id=line.variant_id,
        served_at=messages.stamp(line.served_at),
        feedback_count=line.feedback_count,
        cited=bool(record.citations) if line.cites_document is None else line.cites_document,
    )


def _exported(one: Exported) -> pb.ExportedRating:
    message = pb.ExportedRating(rating=messages.rating_given(one.rating))
    if one.record is not None:
        message.answer.MergeFromString(one.record)
    if one.other_record is not None:
        message.other_answer.MergeFromString(one.other_record)
    return message


def _review(item: ReviewItem) -> pb.ReviewItem:
    return pb.ReviewItem(
        review_id=item.review_id,
        answer=AnswerServed.FromString(item.record),
        sampled_by=item.sampled_by,
        reviews_done=item.reviews_done,
        queued_at=messages.stamp(item.queued_at),
    )
