"""The domain's values on the wire, and back. Parsing raises nothing: what is wrong with a change, the domain says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from anabranch.ingestion.v1 import events_pb2 as pb
from anabranch.retrieval.v1.events_pb2 import DocumentIndexed
from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_ingestion.application.ports import Dispatch
from anabranch_ingestion.domain.chunking import Chunk
from anabranch_ingestion.domain.documents import (
    BodyKind,
    Change,
    DocumentKey,
    Provenance,
    Status,
    chunk_id,
)
from anabranch_ingestion.domain.lifecycle import Indexed
from anabranch_ingestion.domain.text import BlockKind, clean, one_line

_BODIES = {"text": BodyKind.TEXT, "content": BodyKind.CONTENT, "uri": BodyKind.URI, None: BodyKind.NONE}
_KINDS = {
    BlockKind.PROSE: pb.CHUNK_KIND_PROSE,
    BlockKind.TABLE: pb.CHUNK_KIND_TABLE,
    BlockKind.CODE: pb.CHUNK_KIND_CODE,
}


def change_from(
    message: DocumentChanged, *, event_id: str, record_key: str, trace: Mapping[str, str], version: int | None = None
) -> Change:
    """The change as it was sent; titles are put on one line."""
    return Change(
        key=DocumentKey(message.tenant, message.corpus, message.document_id),
        event_id=event_id,
        record_key=record_key,
        version=message.version if version is None else version,
        body=_BODIES[message.WhichOneof("body")],
        text=message.text,
        content=message.content,
        uri=message.uri,
        deleted=message.deleted,
        title=one_line(clean(message.title)),
        content_type=message.content_type,
        filename=message.filename,
        source_uri=clean(message.source_uri),
        metadata=dict(message.metadata),
        acl=tuple(message.acl),
        changed_at=_changed_at(message),
        trace=trace,
    )


def change_to(change: Change) -> DocumentChanged:
    """The change, to keep for later."""
    message = DocumentChanged(
        tenant=change.key.tenant,
        corpus=change.key.corpus,
        document_id=change.key.document_id,
        version=change.version,
        deleted=change.deleted,
        title=change.title,
        content_type=change.content_type,
        filename=change.filename,
        source_uri=change.source_uri,
        metadata=change.metadata,
        acl=change.acl,
        changed_at=_timestamp(change.changed_at),
    )
    if change.body is BodyKind.TEXT:
        message.text = change.text
    elif change.body is BodyKind.CONTENT:
        message.content = change.content
    elif change.body is BodyKind.URI:
        message.uri = change.uri
    return message


def indexed_from(message: DocumentIndexed) -> Indexed:
    """What retrieval says about a version."""
    return Indexed(
        key=key_from(message.document),
        version=message.document.version,
        deleted=message.deleted,
        index_generation=message.index_generation,
        chunk_count=message.chunk_count,
    )


def key_from(ref: pb.DocumentRef) -> DocumentKey:
    """The document a reference names."""
    return DocumentKey(ref.tenant, ref.corpus, ref.document_id)


def status_to(status: Status) -> pb.DocumentStatusChanged:
    """An answer."""
    message = pb.DocumentStatusChanged(
        document=_ref(status.key, status.version),
        state=pb.DocumentState.Value(f"DOCUMENT_STATE_{status.state.value}"),
        caused_by=status.caused_by,
        index_generation=status.index_generation,
        chunk_count=status.chunk_count,
        at=_timestamp(status.at),
    )
    if status.rejection is not None:
        message.rejection.reason = pb.RejectionReason.Value(f"REJECTION_REASON_{status.rejection.reason.value}")
        message.rejection.detail = status.rejection.detail
        message.rejection.field = status.rejection.field
    return message


def chunked_to(dispatch: Dispatch) -> list[pb.DocumentChunked]:
    """The parts of a version, in order."""
    count = sum(len(part) for part in dispatch.parts)
    provenance = provenance_to(dispatch.provenance)
    return [
        pb.DocumentChunked(
            document=_ref(dispatch.key, dispatch.version),
            caused_by=dispatch.caused_by,
            deleted=dispatch.deleted,
            part=number,
            parts=len(dispatch.parts),
            chunk_count=count,
            chunks=[_chunk(dispatch, chunk) for chunk in part],
            title=dispatch.title,
            metadata=dispatch.metadata,
            acl=dispatch.acl,
            provenance=provenance,
        )
        for number, part in enumerate(dispatch.parts)
    ]


def provenance_to(provenance: Provenance) -> pb.Provenance:
    """Where a text came from."""
    return pb.Provenance(
        source_uri=provenance.source_uri,
        content_sha256=provenance.content_sha256,
        fingerprint=provenance.fingerprint,
        content_type=provenance.content_type,
        parser=provenance.parser,
        chunker=provenance.chunker,
        changed_at=_timestamp(provenance.changed_at),
    )


def _chunk(dispatch: Dispatch, chunk: Chunk) -> pb.Chunk:
    return pb.Chunk(
        chunk_id=chunk_id(dispatch.key, dispatch.version, chunk.ordinal),
        ordinal=chunk.ordinal,
        text=chunk.text,
        span=pb.Span(start=chunk.start, end=chunk.end),
        title_path=chunk.title_path,
        kind=_KINDS[chunk.kind],
        page=chunk.page,
        line=chunk.line,
        token_count=chunk.token_count,
        sentences=[pb.Span(start=start, end=end) for start, end in chunk.sentences],
    )


def _ref(key: DocumentKey, version: int) -> pb.DocumentRef:
    return pb.DocumentRef(tenant=key.tenant, corpus=key.corpus, document_id=key.document_id, version=version)


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _changed_at(message: DocumentChanged) -> datetime | None:
    if not message.HasField("changed_at"):
        return None
    try:
        return message.changed_at.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        # Out of range: no date anybody meant.
        return None
