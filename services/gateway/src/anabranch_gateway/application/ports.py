"""What the use cases need from outside."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import NewType, Protocol

from anabranch_gateway.domain.answers import Citation, Condensed, Found, GenerateEvent, Passage, Served
from anabranch_gateway.domain.costs import Plan
from anabranch_gateway.domain.documents import DeleteDocument, PutDocument
from anabranch_gateway.domain.feedback import Feedback, Given
from anabranch_gateway.domain.keys import Key
from anabranch_gateway.domain.questions import Turn
from anabranch_gateway.domain.routing import GenerationSettings, RetrievalSettings

# Answers of other services that go to the caller as they came: the gateway does not read them.
Corpus = NewType("Corpus", object)
DocumentDetails = NewType("DocumentDetails", object)
DocumentStatus = NewType("DocumentStatus", object)

__all__ = [
    "AnswerRecord",
    "Citation",
    "Corpus",
    "DocumentChanges",
    "DocumentDetails",
    "DocumentStatus",
    "Documents",
    "Feedbacks",
    "Generator",
    "Keys",
    "Passage",
    "Plans",
    "Retriever",
    "Sessions",
]


class Retriever(Protocol):
    """The index. Calls raise NotFound for a corpus that the tenant does not have, Transient while it is away."""

    async def retrieve(
        self,
        *,
        tenant: str,
        corpus: str,
        query: str,
        settings: RetrievalSettings,
        filters: Mapping[str, str],
        acl: Sequence[str],
        limit: int | None = None,
        with_features: bool = False,
    ) -> Found:
        """The best passages; `limit` takes the place of the settings' own number.

        Each passage has its rank, and its ranking features where they are wanted.
        """
        ...

    async def corpora(self, tenant: str) -> Sequence[Corpus]:
        """What the tenant has put documents into, by name."""
        ...


class Generator(Protocol):
    """The writer of answers. Calls raise Transient while it is away."""

    async def condense(self, question: str, *, history: Sequence[Turn], settings: GenerationSettings) -> Condensed:
        """The question, made to stand without its history."""
        ...

    def generate(
        self,
        *,
        question: str,
        passages: Sequence[Passage],
        history: Sequence[Turn],
        settings: GenerationSettings,
        max_tokens: int,
        variables: Mapping[str, object],
        canary: str = "",
        mark_passages: bool = False,
        response_schema: Mapping[str, object] | None = None,
    ) -> AsyncGenerator[GenerateEvent, None]:
        """Deltas and citations, then one Generated. Closing it stops the work. `max_tokens` above 0 is a cap.

        A `canary` is put into the system prompt; with `mark_passages` all that others wrote is marked as data; with a
        `response_schema` models are told to answer with JSON of it.
        """
        ...


class Plans(Protocol):
    """What answers of a variant may take. Calls raise Transient while the writer of answers is away."""

    async def plan(self, settings: GenerationSettings) -> Plan:
        """The models that may be called, with their real names where the settings leave them to the service."""
        ...


class Sessions(Protocol):
    """Conversations kept between questions: bounded in turns, in number per tenant, and in time."""

    async def load(self, tenant: str, session: bytes) -> Sequence[Turn]:
        """Turns so far, oldest first; none for a session that is new or has expired."""
        ...

    async def append(self, tenant: str, session: bytes, turns: Sequence[Turn]) -> None:
        """Adds turns and renews the session; the oldest turns, and the tenant's oldest sessions, make room."""
        ...


class AnswerRecord(Protocol):
    """Where served answers are written down."""

    async def add(self, served: Served) -> None:
        """Takes a record over, without waiting for it to be written. Never raises: what is lost is counted."""
        ...


class DocumentChanges(Protocol):
    """The durable way to ingestion."""

    async def put(self, tenant: str, change: PutDocument, *, event_id: str) -> str:
        """Returns the event's id once the change is durable. Raises Unreachable. An empty `event_id`: a new one."""
        ...

    async def delete(self, tenant: str, change: DeleteDocument, *, event_id: str) -> str:
        """As `put`."""
        ...


class Documents(Protocol):
    """What ingestion knows about documents. Calls raise NotFound, and Transient while it is away."""

    async def get(self, *, tenant: str, corpus: str, document_id: str) -> DocumentDetails:
        """Latest status and lineage."""
        ...

    def watch(self, *, tenant: str, corpus: str, document_id: str) -> AsyncGenerator[DocumentStatus, None]:
        """The present status, then every change. Closing it ends the watch."""
        ...


class Feedbacks(Protocol):
    """The keeper of what people made of answers."""

    async def give(self, tenant: str, feedback: Feedback, *, event_id: str) -> Given:
        """Returns once it is stored. An empty `event_id`: an event of its own.

        Raises NotFound for an answer that is not the tenant's, Invalid with the field at fault, TooOften past the
        person's limit, and Transient while it is away.
        """
        ...


class Keys(Protocol):
    """Keys at rest."""

    async def find(self, key_id: str) -> Key | None:
        """The key of that name, revoked or not."""
        ...

    async def add(self, key: Key) -> None:
        """Keeps a key."""
        ...

    async def of_tenant(self, tenant: str) -> Sequence[Key]:
        """All keys of a tenant, oldest first."""
        ...

    async def revoke(self, key_id: str, *, at: datetime) -> bool:
        """Ends a key; False when there is none of that name that still holds."""
        ...
