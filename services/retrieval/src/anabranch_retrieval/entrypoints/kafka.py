"""Chunks with vectors in, visible documents out (the announcements leave through the outbox); the routing beside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta

import numpy as np

from anabranch import topics
from anabranch.embedding.v1.events_pb2 import ChunksEmbedded, EmbeddedChunk
from anabranch.registry.v1.events_pb2 import RoutingChanged
from anabranch_bus import Batch, Bus, Outcome, Record
from anabranch_faults import Invalid, Transient
from anabranch_observability import counter
from anabranch_observability.names import retrieval as names
from anabranch_retrieval.application import IndexDocuments
from anabranch_retrieval.domain import Change, CorpusKey, Deletion, DocumentKey, Entry, Part
from anabranch_retrieval.messages import GROUP, chunk_from_proto, model_from

_FLOAT = 4
_STUCK_AFTER = timedelta(minutes=3)  # a batch of large parts that are embedded anew during a reindex


Route = Callable[[str, Collection[str]], Awaitable[None]]


def register(bus: Bus, index: IndexDocuments, route: Route) -> None:
    """Declare the handler of embedding.chunks.embedded, and the reader of the routing.

    route: is told the rerankers that a scope's variants name; at the start, and with every change.
    """

    @bus.table(topics.REGISTRY_ROUTING_CHANGED)
    async def on_routing_changed(scope: str, message: RoutingChanged | None) -> None:
        shares = message.shares if message is not None else ()
        named = {share.variant.retrieval.reranker_version for share in shares}
        await route(scope, sorted(named - {""}))

    @bus.subscriber(topics.EMBEDDING_CHUNKS_EMBEDDED, group=GROUP, max_records=64, stuck_after=_STUCK_AFTER)
    async def on_chunks_embedded(records: Batch[ChunksEmbedded]) -> Outcome[ChunksEmbedded]:
        outcome = records.outcome()
        changes: dict[str, tuple[Record[ChunksEmbedded], Change]] = {}
        for record in records:
            try:
                # A repetition inside the batch is done when the first of it is.
                changes.setdefault(record.event_id, (record, change_from(record.message, record.event_id)))
            except Invalid as fault:
                outcome.invalid(record, fault)
        faults = await index([change for _, change in changes.values()])
        counter(names.CHANGES).labels(outcome="done").inc(len(changes) - len(faults))
        counter(names.CHANGES).labels(outcome="failed").inc(len(faults))
        for event_id, found in faults.items():
            record, _ = changes[event_id]
            if isinstance(found, Transient):
                outcome.retry(record, found)
            elif isinstance(found, Invalid):
                outcome.invalid(record, found)
            else:
                raise found
        return outcome


def change_from(message: ChunksEmbedded, event_id: str) -> Change:
    """The change a message is. Raises Invalid, naming the field."""
    ref = message.document
    document = DocumentKey(corpus=CorpusKey(tenant=ref.tenant, corpus=ref.corpus), document_id=ref.document_id)
    if message.deleted:
        return Deletion(event_id=event_id, document=document, version=ref.version, caused_by=message.caused_by)
    model = model_from(message.model)
    return Part(
        event_id=event_id,
        document=document,
        version=ref.version,
        caused_by=message.caused_by,
        part=message.part,
        parts=message.parts,
        chunk_count=message.chunk_count,
        entries=tuple(_entry(chunk, message, document) for chunk in message.chunks),
        model=model,
    )


def _entry(embedded: EmbeddedChunk, message: ChunksEmbedded, document: DocumentKey) -> Entry:
    chunk = chunk_from_proto(embedded.chunk, message, document)
    if len(embedded.vector) % _FLOAT:
        raise Invalid(f"chunk {chunk.id}: not a row of floats", field="chunks.vector", reason="INVALID_VECTOR")
    return Entry(
        chunk=chunk,
        vector=np.frombuffer(embedded.vector, dtype="<f4"),
        sentence_vectors=embedded.sentence_vectors,
    )
