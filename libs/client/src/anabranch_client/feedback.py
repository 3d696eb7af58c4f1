"""What people make of answers, as the client takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypedDict, Unpack

from anabranch.gateway.v1 import gateway_service_pb2 as pb
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_client.messages import timestamp

__all__ = ["FeedbackAccepted", "Opinion", "Sign", "accepted_from", "feedback_request"]


class Sign(StrEnum):
    """Something a person did, from which satisfaction may be guessed."""

    CITATION_OPENED = "CITATION_OPENED"
    ANSWER_COPIED = "ANSWER_COPIED"
    DWELLED = "DWELLED"
    TASK_DONE = "TASK_DONE"
    ASKED_AGAIN = "ASKED_AGAIN"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackAccepted:
    """A feedback that is stored. `joined` is False while the answer's own record is still on its way."""

    feedback_id: str
    revision: int
    joined: bool


class Opinion(TypedDict, total=False):
    """One of `up`, `rating`, `correct`, `relevant`, `irrelevant`, `prefer`, `over` and `sign`; what goes with it."""

    up: bool
    """A thumb: up or down."""
    rating: int
    """1 to 5 stars; `reasons` are labels such as `outdated` or `too-long`."""
    reasons: Sequence[str]
    correct: str
    """The right answer, in the person's words."""
    relevant: str
    """Chunk id of a passage or citation that fits the question."""
    irrelevant: str
    """Chunk id of one that does not."""
    prefer: str
    """Answer id of another answer, which is the better one."""
    over: str
    """Answer id of another answer, which this one is better than."""
    sign: Sign
    """Something the person did; `chunk_id` goes with CITATION_OPENED, `dwell` with DWELLED."""
    chunk_id: str
    dwell: timedelta


KINDS: Final = ("up", "rating", "correct", "relevant", "irrelevant", "prefer", "over", "sign")
# What goes with what: anything else is a mistake that must not pass unseen.
DETAILS: Final[Mapping[str, str]] = {"reasons": "rating", "chunk_id": "sign", "dwell": "sign"}


def feedback_request(
    answer_id: str,
    *,
    user_id: str,
    comment: str,
    given_at: datetime | None,
    may_train: bool,
    idempotency_key: str,
    **opinion: Unpack[Opinion],
) -> pb.GiveFeedbackRequest:
    """The request as the contract has it. Raises TypeError unless exactly one opinion is given."""
    kinds = [kind for kind in KINDS if opinion.get(kind) is not None]
    if len(kinds) != 1:
        raise TypeError(f"give exactly one of {', '.join(KINDS)}")
    for detail, kind in DETAILS.items():
        if opinion.get(detail) is not None and kind != kinds[0]:
            raise TypeError(f"{detail} goes with {kind}")
    request = pb.GiveFeedbackRequest(
        answer_id=answer_id,
        user_id=user_id,
        comment=comment,
        given_at=None if given_at is None else timestamp(given_at, name="given_at"),
        consent=upstream.CONSENT_GRANTED if may_train else upstream.CONSENT_DENIED,
        idempotency_key=idempotency_key,
    )
    _express(request, kinds[0], opinion)
    return request


def _express(request: pb.GiveFeedbackRequest, kind: str, opinion: Opinion) -> None:
    match kind:
        case "up":
            request.thumb.CopyFrom(upstream.Thumb(up=opinion["up"]))
        case "rating":
            # Below nothing the field has no form; 0 is refused by name, as any other number off the scale is.
            stars = max(opinion["rating"], 0)
            request.rating.CopyFrom(upstream.Rating(stars=stars, reasons=opinion.get("reasons") or ()))
        case "correct":
            request.correction.CopyFrom(upstream.Correction(text=opinion["correct"]))
        case "relevant" | "irrelevant":
            chunk_id = opinion["relevant"] if kind == "relevant" else opinion["irrelevant"]
            request.citation.CopyFrom(upstream.CitationJudgment(chunk_id=chunk_id, relevant=kind == "relevant"))
        case "prefer" | "over":
            other = opinion["prefer"] if kind == "prefer" else opinion["over"]
            request.preference.CopyFrom(upstream.Preference(other_answer_id=other, prefers_other=kind == "prefer"))
        case _:
            sign = upstream.Sign.Value(f"SIGN_{opinion['sign']}")
            request.implicit.CopyFrom(upstream.Implicit(sign=sign, chunk_id=opinion.get("chunk_id") or ""))
            if (dwell := opinion.get("dwell")) is not None:
                request.implicit.dwell.FromTimedelta(dwell)


def accepted_from(message: pb.GiveFeedbackResponse) -> FeedbackAccepted:
    """What became of a feedback."""
    return FeedbackAccepted(feedback_id=message.feedback_id, revision=message.revision, joined=message.joined)
