"""The bytes kept of a chunk: all a reader is shown of it.

The form is `anabranch.embedding.v1.ChunksEmbedded` with this one chunk and without vectors: it is what arrived, and
protobuf keeps old rows readable when fields are added.
"""

from __future__ import annotations

from anabranch.embedding.v1 import events_pb2 as embedding
from anabranch.ingestion.v1 import events_pb2 as ingestion
from anabranch_retrieval.domain import Chunk, CorpusKey, DocumentKey
from anabranch_retrieval.messages import chunk_from_proto, chunk_to_proto


def pack(chunk: Chunk) -> bytes:
    """Chunk to bytes. Tenant and corpus are left out: the place they are stored in says them."""
    kept = embedding.ChunksEmbedded(
        document=ingestion.DocumentRef(document_id=chunk.document.document_id, version=chunk.version),
        chunks=[embedding.EmbeddedChunk(chunk=chunk_to_proto(chunk))],
        title=chunk.title,
        metadata=chunk.metadata,
        acl=chunk.acl,
        provenance=ingestion.Provenance(source_uri=chunk.source_uri),
    )
    if chunk.changed_at is not None:
        kept.provenance.changed_at.FromDatetime(chunk.changed_at)
    return kept.SerializeToString()


def unpack(raw: bytes, corpus: CorpusKey) -> Chunk:
    """Bytes back to the chunk."""
    kept = embedding.ChunksEmbedded.FromString(raw)
    document = DocumentKey(corpus=corpus, document_id=kept.document.document_id)
    (embedded,) = kept.chunks
    return chunk_from_proto(embedded.chunk, kept, document)
