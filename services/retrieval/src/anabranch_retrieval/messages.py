"""Between messages of the contracts and the domain; what comes in and what is kept share these forms."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, cast

from anabranch.embedding.v1 import events_pb2 as embedding
from anabranch.ingestion.v1 import events_pb2 as ingestion
from anabranch_retrieval.domain import Chunk, DocumentKey, Model

GROUP: Final = "retrieval"  # the consumer group, and the owner of inbox rows


def model_from(model: embedding.ModelIdentity) -> Model:
    """Raises Invalid for one that names nothing."""
    return Model(
        name=model.name,
        digest=model.digest,
        dimension=model.dimension,
        quantisation=model.quantisation,
        version=model.version,
    )


def chunk_from_proto(chunk: ingestion.Chunk, part: embedding.ChunksEmbedded, document: DocumentKey) -> Chunk:
    """One chunk of a message, with what the message says of its document. Raises Invalid."""
    return Chunk(
        id=chunk.chunk_id,
        document=document,
        version=part.document.version,
        ordinal=chunk.ordinal,
        text=chunk.text,
        start=chunk.span.start,
        end=chunk.span.end,
        title=part.title,
        title_path=tuple(chunk.title_path),
        kind=int(chunk.kind),
        page=chunk.page,
        line=chunk.line,
        token_count=chunk.token_count,
        sentences=tuple((span.start, span.end) for span in chunk.sentences),
        source_uri=part.provenance.source_uri,
        metadata=dict(part.metadata),
        acl=tuple(part.acl),
        changed_at=_changed_at(part.provenance),
    )


def _changed_at(provenance: ingestion.Provenance) -> datetime | None:
    if not provenance.HasField("changed_at"):
        return None
    try:
        return provenance.changed_at.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):  # out of range: no date is better than no document
        return None


def chunk_to_proto(chunk: Chunk) -> ingestion.Chunk:
    """The chunk as ingestion wrote it."""
    return ingestion.Chunk(
        chunk_id=chunk.id,
        ordinal=chunk.ordinal,
        text=chunk.text,
        span=ingestion.Span(start=chunk.start, end=chunk.end),
        title_path=chunk.title_path,
        kind=cast("ingestion.ChunkKind.ValueType", chunk.kind),
        page=chunk.page,
        line=chunk.line,
        token_count=chunk.token_count,
        sentences=[ingestion.Span(start=start, end=end) for start, end in chunk.sentences],
    )
