"""Searching, and changing and following documents."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from uuid import uuid4

from anabranch_gateway.application.gate import Gate
from anabranch_gateway.application.ports import (
    Corpus,
    DocumentChanges,
    DocumentDetails,
    Documents,
    DocumentStatus,
    Retriever,
)
from anabranch_gateway.domain import names
from anabranch_gateway.domain.answers import Found
from anabranch_gateway.domain.documents import DeleteDocument, PutDocument, event_id_of
from anabranch_gateway.domain.keys import Caller
from anabranch_gateway.domain.questions import Query
from anabranch_gateway.domain.routing import Routing, unit_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a search found, and under which variant."""

    variant_id: str
    found: Found


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCorpus:
    """Finds passages without answering, as the caller's variant would."""

    routing: Routing
    retriever: Retriever
    gate: Gate

    async def __call__(self, caller: Caller, query: Query) -> Results:
        """The best passages. Raises Denied, NotFound, Overloaded and Transient, as asking does."""
        labels = caller.claim(query.acl)
        unit = unit_of(user_id=query.user_id, session_id="", answer_id=uuid4().hex)
        choice = self.routing.choose(tenant=caller.tenant, corpus=query.corpus, unit=unit)
        with self.gate.admit(caller.tenant):
            found = await self.retriever.retrieve(
                tenant=caller.tenant,
                corpus=query.corpus,
                query=query.query,
                settings=choice.variant.retrieval,
                filters=query.filters,
                acl=labels,
                limit=query.limit,
            )
        return Results(variant_id=choice.variant.variant_id, found=found)

    async def corpora(self, caller: Caller) -> Sequence[Corpus]:
        """What the caller's tenant has put documents into, by name."""
        return await self.retriever.corpora(caller.tenant)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeDocuments:
    """Hands changes to ingestion, durably, as the caller's tenant."""

    changes: DocumentChanges

    async def put(self, caller: Caller, change: PutDocument) -> str:
        """Returns the event's id once the change is durable. Raises Unreachable when that cannot be had."""
        event_id = event_id_of(change, tenant=caller.tenant)
        return await self.changes.put(caller.tenant, change, event_id=event_id)

    async def delete(self, caller: Caller, change: DeleteDocument) -> str:
        """As `put`."""
        event_id = event_id_of(change, tenant=caller.tenant)
        return await self.changes.delete(caller.tenant, change, event_id=event_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowDocuments:
    """Tells where the caller's documents stand."""

    documents: Documents
    gate: Gate

    async def get(self, caller: Caller, *, corpus: str, document_id: str) -> DocumentDetails:
        """Latest status and lineage. Raises NotFound when the document was never seen."""
        names.corpus(corpus)
        names.document_id(document_id)
        return await self.documents.get(tenant=caller.tenant, corpus=corpus, document_id=document_id)

    async def watch(self, caller: Caller, *, corpus: str, document_id: str) -> AsyncGenerator[DocumentStatus, None]:
        """The present status, then every change, until it is closed. Raises Overloaded when too many watch."""
        names.corpus(corpus)
        names.document_id(document_id)
        with self.gate.admit(caller.tenant):
            statuses = self.documents.watch(tenant=caller.tenant, corpus=corpus, document_id=document_id)
            async with aclosing(statuses):
                async for status in statuses:
                    yield status
