"""Public test doubles: feedback as the feedback service tells it, a search, a registry, and ports in memory."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from anabranch.feedback.v1 import feedback_service_pb2 as feedback
from anabranch.feedback.v1 import feedback_service_pb2_grpc as feedback_stubs
from anabranch.feedback.v1.events_pb2 import RatingGiven
from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch.ingestion.v1.events_pb2 import DocumentRef
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_training.domain import FEATURE_SET, RF1

__all__ = ["START", "ExportedFeedback", "rating", "ratings", "worded"]

START = datetime(2026, 11, 1, tzinfo=UTC)
_SHOWN = 5


def rating(
    number: int,
    *,
    tenant: str = "acme",
    corpus: str = "handbook",
    relevant: bool | None = None,
    revision: int = 1,
    users: int = 200,
) -> RatingGiven:
    """A citation judgment on one of five passages shown; the same number is the same feedback.

    The passages' third feature tells what is relevant, most of the time; `relevant` says what the person says instead.
    """
    # Made up, and the same each time.
    chance = random.Random(number)  # noqa: S311  no secret
    answer = f"answer-{number}"
    message = RatingGiven(
        feedback_id=f"feedback-{number}",
        revision=revision,
        tenant=tenant,
        corpus=corpus,
        answer_id=answer,
        user_id=f"user-{number % users}",
    )
    message.given_at.FromDatetime(START + timedelta(seconds=number))
    message.cause.question_digest = hashlib.sha256(str(number // 3).encode()).hexdigest()
    message.cause.feature_set = FEATURE_SET
    right = chance.randrange(_SHOWN)
    for place in range(_SHOWN):
        features = [chance.random() for _ in RF1]
        features[2] = 1 - place / _SHOWN
        features[0] = 0.3 + 0.5 * (place == right) + 0.2 * chance.random()
        message.cause.chunks.add(
            chunk_id=f"chunk-{number // 3}-{place}",
            document=DocumentRef(tenant=tenant, corpus=corpus, document_id=f"document-{(number // 3 + place) % 97}"),
            shown_rank=place + 1,
            rank=place + 1,
            cited=place == 0,
            features=features,
        )
    judged = chance.randrange(_SHOWN)
    honest = (judged == right) != (chance.random() < 0.1)  # noqa: PLR2004  a tenth err
    message.given.CopyFrom(
        upstream.FeedbackGiven(
            tenant=tenant,
            answer_id=answer,
            user_id=message.user_id,
            citation=upstream.CitationJudgment(
                chunk_id=message.cause.chunks[judged].chunk_id, relevant=honest if relevant is None else relevant
            ),
        )
    )
    return message


def ratings(count: int, *, tenant: str = "acme", corpus: str = "handbook") -> Sequence[RatingGiven]:
    """Many."""
    return [rating(number, tenant=tenant, corpus=corpus) for number in range(count)]


def worded(number: int, *, tenant: str = "acme", corpus: str = "handbook") -> feedback.ExportedRating:
    """Feedback with its words, by number: correction, preference, thumb up, thumb down in turn, one question for four.

    People like what the passages bear out, and cite; a tenth of them err.
    """
    question, turn = divmod(number, 4)
    right, wrong = (
        f"Room {question} opens at {8 + question % 9} o'clock. [1]",
        "All of the rooms open whenever one asks.",
    )
    if question % 10 == 9:  # noqa: PLR2004  a tenth err
        right, wrong = wrong, right
    kinds = (
        upstream.FeedbackGiven(correction=upstream.Correction(text=right)),
        upstream.FeedbackGiven(
            preference=upstream.Preference(other_answer_id=f"answer-{number}-b", prefers_other=True)
        ),
        upstream.FeedbackGiven(thumb=upstream.Thumb(up=True)),
        upstream.FeedbackGiven(thumb=upstream.Thumb(up=False)),
    )
    exported = feedback.ExportedRating(answer=_served(question, f"answer-{number}", wrong if turn != 2 else right))  # noqa: PLR2004  the liked one
    if turn == 1:
        exported.other_answer.CopyFrom(_served(question, f"answer-{number}-b", right))
    exported.rating.CopyFrom(
        RatingGiven(
            feedback_id=f"feedback-{number:05}",
            revision=1,
            tenant=tenant,
            corpus=corpus,
            answer_id=f"answer-{number}",
            user_id=f"user-{number % 50}",
            given=kinds[turn],
        )
    )
    exported.rating.given_at.FromDatetime(START + timedelta(seconds=number))
    return exported


def _served(question: int, answer_id: str, text: str) -> AnswerServed:
    served = AnswerServed(
        answer_id=answer_id, has_content=True, question=f"When does room {question} open?", answer=text
    )
    for place in range(2):
        passage = served.passages.add(chunk_id=f"chunk-{question}-{place}", title="Rooms")
        passage.document.document_id = f"document-{question}" if place == 0 else f"other-{question % 7}"
        passage.text = f"Room {question} opens at {8 + question % 9} o'clock." if place == 0 else "Cellars are closed."
    served.citations.add(number=1, chunk_id=f"chunk-{question}-0")
    return served


class ExportedFeedback(feedback_stubs.FeedbackServiceServicer):
    """The feedback service, as far as training calls it. `given` may be changed between calls."""

    def __init__(self, given: Sequence[feedback.ExportedRating]) -> None:
        """Takes what is exported, in order."""
        self.given = list(given)

    async def ExportRatings(self, request: Any, context: Any) -> feedback.ExportRatingsResponse:  # noqa: ARG002, N802  the contract's signature
        """A page; the token is the place to go on at."""
        start, found = int(request.page_token or 0), [one for one in self.given if one.rating.tenant == request.tenant]
        page = found[start : start + request.page_size]
        following = str(start + len(page)) if start + len(page) < len(found) else ""
        return feedback.ExportRatingsResponse(ratings=page, next_page_token=following)

    async def CountFeedback(self, request: Any, context: Any) -> feedback.CountFeedbackResponse:  # noqa: ARG002, N802  the contract's signature
        """All of it as corrections."""
        count = sum(one.rating.tenant == request.tenant for one in self.given)
        return feedback.CountFeedbackResponse(counts=[feedback.FeedbackCount(kind="correction", count=count)])
