"""Answers and feedback for tests."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from anabranch import topics
from anabranch.feedback.v1 import events_pb2 as events
from anabranch.feedback.v1 import feedback_service_pb2 as pb
from anabranch.gateway.v1.events_pb2 import AnswerServed
from anabranch.generation.v1.generation_service_pb2 import Citation
from anabranch.ingestion.v1.events_pb2 import DocumentRef
from anabranch.retrieval.v1.retrieval_service_pb2 import Passage
from anabranch.upstream.v1 import feedback_pb2 as upstream
from anabranch.upstream.v1.feedback_pb2 import FeedbackGiven, Thumb
from anabranch_bus import Event, MemoryBus

__all__ = ["DOWN", "GIVEN", "SERVED", "UP", "Running", "event_of", "feedback", "new_answer_id", "served"]

GIVEN = topics.UPSTREAM_FEEDBACK_GIVEN
SERVED = topics.GATEWAY_ANSWER_SERVED
UP, DOWN = upstream.Thumb(up=True), upstream.Thumb(up=False)


@dataclass(slots=True, kw_only=True)
class Running:
    """One service that runs in this process, its bus and its clock."""

    stub: Any
    bus: MemoryBus
    # Calls a function until it gives something true; the test kit's, which services do not depend on.
    poll: Any
    ahead: list[timedelta] = field(default_factory=list)

    def now(self) -> datetime:
        """The service's time."""
        return datetime.now(UTC) + sum(self.ahead, timedelta())

    def told(self) -> list[events.RatingGiven]:
        """The ratings it published."""
        return [event.message for event in self.bus.published(topics.FEEDBACK_RATING_GIVEN)]

    def rejected(self) -> list[tuple[str, str]]:
        """Why and by which event id it refused."""
        found = self.bus.published(topics.FEEDBACK_RATING_REJECTED)
        return [
            (events.Refusal.Name(one.message.refusal).removeprefix("REFUSAL_"), one.message.event_id) for one in found
        ]

    async def give(self, message: upstream.FeedbackGiven, *, event_id: str = "") -> pb.GiveResponse:
        """Give by gRPC."""
        response: pb.GiveResponse = await self.stub.Give(pb.GiveRequest(given=message, event_id=event_id), timeout=5)
        return response

    async def send(self, *messages: upstream.FeedbackGiven, ids: tuple[str, ...] = ()) -> None:
        """Give by Kafka."""
        names = ids or tuple(str(id(message)) for message in messages)
        await self.bus.deliver(GIVEN, [event_of(one, name) for one, name in zip(messages, names, strict=True)])

    async def until_told(self, count: int) -> list[events.RatingGiven]:
        """Wait for that many ratings; returns them."""
        await self.poll(lambda: len(self.told()) >= count, what=f"{count} ratings")
        return self.told()


def event_of(message: upstream.FeedbackGiven, event_id: str) -> Event[upstream.FeedbackGiven]:
    """The event of a feedback."""
    return Event(topic=GIVEN, message=message, key=f"{message.tenant}/{message.answer_id}", event_id=event_id)


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
