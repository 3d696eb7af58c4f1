"""Public test doubles: feedback as the feedback service tells it, a search, a registry, and ports in memory."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from anabranch.feedback.v1.events_pb2 import RatingGiven
from anabranch.ingestion.v1.events_pb2 import DocumentRef
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch_training.domain import FEATURE_SET, RF1

__all__ = ["START", "rating", "ratings"]

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
