"""Between messages and the domain."""

from __future__ import annotations

from collections.abc import Sequence

from anabranch.embedding.v1 import embedding_service_pb2 as service
from anabranch.embedding.v1 import events_pb2 as events
from anabranch.ingestion.v1 import events_pb2 as ingestion
from anabranch_embedding.domain import Encoding, ModelIdentity, Text, prefix_of
from anabranch_faults import Invalid

__all__ = ["embedded_from", "identity_message", "response_from", "texts_of", "texts_of_part"]


def texts_of(request: service.EmbedTextsRequest) -> list[Text]:
    """Return the texts of a request. Raises Invalid, TooLarge with the field at fault."""
    for field, given in (("sentences", len(request.sentences)), ("prefixes", len(request.prefixes))):
        if given not in (0, len(request.texts)):
            raise Invalid(f"has {given} entries for {len(request.texts)} texts", field=field, reason="COUNT_MISMATCH")
    prefixes = request.prefixes or [""] * len(request.texts)
    texts = []
    for index, (body, prefix) in enumerate(zip(request.texts, prefixes, strict=True)):
        sentences: tuple[tuple[int, int], ...] = ()
        if request.sentences:
            spans = request.sentences[index]
            if len(spans.starts) != len(spans.ends):
                raise Invalid(
                    f"has {len(spans.starts)} starts and {len(spans.ends)} ends",
                    field=f"sentences[{index}]",
                    reason="COUNT_MISMATCH",
                )
            sentences = tuple(zip(spans.starts, spans.ends, strict=True))
        text = Text(body=body, prefix=prefix, sentences=sentences)
        texts.append(text.checked(body=f"texts[{index}]", sentences=f"sentences[{index}]"))
    return texts


def texts_of_part(message: ingestion.DocumentChunked) -> list[Text]:
    """Return one text a chunk. Raises Invalid, TooLarge with the field at fault."""
    document = message.document
    for field in ("tenant", "corpus", "document_id", "version"):
        if not getattr(document, field):
            raise Invalid("is missing", field=f"document.{field}", reason="DOCUMENT_INCOMPLETE")
    if message.part >= message.parts:
        raise Invalid(f"is {message.part}, of {message.parts} parts", field="part", reason="PART_RANGE")
    if message.deleted and message.chunks:
        raise Invalid("a deletion carries no chunks", field="chunks", reason="DELETED_WITH_CHUNKS")
    texts = []
    for index, chunk in enumerate(message.chunks):
        text = Text(
            body=chunk.text,
            prefix=prefix_of(message.title, chunk.title_path),
            sentences=tuple((span.start, span.end) for span in chunk.sentences),
        )
        texts.append(text.checked(body=f"chunks[{index}].text", sentences=f"chunks[{index}].sentences"))
    return texts


def embedded_from(
    message: ingestion.DocumentChunked, identity: ModelIdentity, encodings: Sequence[Encoding]
) -> events.ChunksEmbedded:
    """Return the same part with vectors."""
    return events.ChunksEmbedded(
        document=message.document,
        caused_by=message.caused_by,
        deleted=message.deleted,
        part=message.part,
        parts=message.parts,
        chunk_count=message.chunk_count,
        chunks=[
            events.EmbeddedChunk(chunk=chunk, vector=_floats(encoding), sentence_vectors=encoding.sentences.tobytes())
            for chunk, encoding in zip(message.chunks, encodings, strict=True)
        ],
        title=message.title,
        metadata=message.metadata,
        acl=message.acl,
        provenance=message.provenance,
        model=identity_message(identity),
    )


def response_from(
    identity: ModelIdentity, encodings: Sequence[Encoding], *, sentences: bool
) -> service.EmbedTextsResponse:
    """Return the answer to EmbedTexts, with sentence vectors where they were asked for."""
    return service.EmbedTextsResponse(
        model=identity_message(identity),
        vectors=[_floats(encoding) for encoding in encodings],
        sentence_vectors=[encoding.sentences.tobytes() for encoding in encodings] if sentences else [],
        token_count=sum(encoding.tokens for encoding in encodings),
    )


def identity_message(identity: ModelIdentity) -> events.ModelIdentity:
    """Return the message of an identity."""
    return events.ModelIdentity(
        name=identity.name,
        digest=identity.digest,
        dimension=identity.dimension,
        quantisation=identity.quantisation,
        version=identity.version,
    )


def _floats(encoding: Encoding) -> bytes:
    return encoding.vector.astype("<f4", copy=False).tobytes()
