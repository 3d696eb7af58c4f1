"""Answers and feedback for tests."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch.generation.v1.generation_service_pb2 import Citation
from anabranch.ingestion.v1.events_pb2 import DocumentRef
from anabranch.retrieval.v1.retrieval_service_pb2 import Passage
from anabranch.upstream.v1.feedback_pb2 import FeedbackGiven, Thumb

__all__ = ["feedback", "new_answer_id", "served"]


def new_answer_id(at: datetime | None = None) -> str:
    """An id (a UUID of version 7) made then, or now."""
    milliseconds = int((at or datetime.now(UTC)).timestamp() * 1000)
    return str(UUID(int=milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)))


def served(
    answer_id: str, *, tenant: str = "acme", corpus: str = "wiki", passages: int = 2, **more: Any
) -> AnswerServed:
    """An answer from chunks c1, c2, ... of documents d1, d2, ..., the first of them cited."""
    fields: dict[str, Any] = {
        "user_id": "ada",
        "variant_id": "v-1",
        "has_content": True,
        "question": "Who  was Ada?",
        "search_query": "who was ada?",
        "answer": "A mathematician [1].",
        **more,
    }
    message = AnswerServed(
        answer_id=answer_id,
        tenant=tenant,
        corpus=corpus,
        passages=[
            Passage(
                document=DocumentRef(tenant=tenant, corpus=corpus, document_id=f"d{n}", version=1),
                chunk_id=f"c{n}",
                text=f"Text {n}.",
                score=1 / n,
                rank=n,
                features=[0.5, float(n)],
            )
            for n in range(1, passages + 1)
        ],
        citations=[Citation(number=1, chunk_id="c1")],
        **fields,
    )
    message.served_at.FromDatetime(datetime.now(UTC))
    return message


def feedback(answer_id: str, *, tenant: str = "acme", user_id: str = "ada", **more: Any) -> FeedbackGiven:
    """A thumb up, unless `more` sets another kind."""
    kinds = ("thumb", "rating", "correction", "preference", "citation", "implicit", "review")
    if not any(kind in more for kind in kinds):
        more["thumb"] = Thumb(up=True)
    return FeedbackGiven(tenant=tenant, answer_id=answer_id, user_id=user_id, **more)
