"""Events in: a batch, a fate per record, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.message import DecodeError

from anabranch import topics
from anabranch.embedding.v1.events_pb2 import ChunksEmbedded
from anabranch.ingestion.v1.events_pb2 import DocumentChunked
from anabranch.retrieval.v1.events_pb2 import DocumentIndexed
from anabranch.upstream.v1.events_pb2 import DocumentChanged
from anabranch_bus import Batch, Bus, Cause, DeadLetter, Event, Outcome, Unreadable
from anabranch_ingestion import messages
from anabranch_ingestion.application.answers import Dead, DeadChange, IndexedEvent, RecordDead, RecordIndexed
from anabranch_ingestion.application.changes import IngestChanges
from anabranch_ingestion.domain.documents import DocumentKey
from anabranch_ingestion.domain.refusals import Reason, Refused

GROUP = "ingestion"


def register(
    bus: Bus, *, ingest: IngestChanges, record_indexed: RecordIndexed, record_dead: RecordDead, max_records: int
) -> None:
    """Declares what ingestion reads."""

    async def on_unreadable(record: Unreadable) -> Sequence[Event]:
        key = DocumentKey.parse(record.key)
        if key is not None:
            problem = f"the record is not a DocumentChanged: {record.problem}"[:900]
            refused = Refused(Reason.MALFORMED, problem)
            await ingest.refuse(key, record.event_id, refused, trace=trace_of(record.headers))
        # Answered through the outbox, like everything else.
        return ()

    @bus.subscriber(topics.UPSTREAM_DOCUMENT_CHANGED, group=GROUP, max_records=max_records, unreadable=on_unreadable)
    async def on_document_changed(records: Batch[DocumentChanged]) -> Outcome[DocumentChanged]:
        outcome = records.outcome()
        postponed = await ingest(
            [
                messages.change_from(
                    record.message,
                    event_id=record.event_id,
                    record_key=record.key,
                    trace=trace_of(record.headers),
                )
                for record in records
            ]
        )
        for record in records:
            if record.event_id in postponed:
                outcome.retry(record, postponed[record.event_id])
        return outcome

    @bus.subscriber(topics.RETRIEVAL_DOCUMENT_INDEXED, group=GROUP, max_records=256)
    async def on_document_indexed(records: Batch[DocumentIndexed]) -> Outcome[DocumentIndexed]:
        await record_indexed(
            [
                IndexedEvent(
                    event=messages.indexed_from(record.message),
                    event_id=record.event_id,
                    trace=trace_of(record.headers),
                )
                for record in records
            ]
        )
        return records.outcome()

    @bus.dead_letters(topics.INGESTION_DOCUMENT_CHUNKED, of="embedding", group=GROUP)
    async def on_embedding_gave_up(letters: Sequence[DeadLetter]) -> None:
        await record_dead.later([dead for letter in letters if (dead := _dead(letter, DocumentChunked, "embedding"))])

    @bus.dead_letters(topics.EMBEDDING_CHUNKS_EMBEDDED, of="retrieval", group=GROUP)
    async def on_retrieval_gave_up(letters: Sequence[DeadLetter]) -> None:
        await record_dead.later([dead for letter in letters if (dead := _dead(letter, ChunksEmbedded, "retrieval"))])

    @bus.dead_letters(topics.UPSTREAM_DOCUMENT_CHANGED, of=GROUP, group=GROUP)
    async def on_ingestion_gave_up(letters: Sequence[DeadLetter]) -> None:
        # What is unreadable was answered when it was found.
        await record_dead.own([dead for letter in letters if (dead := _own(letter))])


def trace_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that let what a record causes go on in its trace."""
    traceparent = headers.get("traceparent")
    return {"traceparent": traceparent} if traceparent else {}


def _dead(letter: DeadLetter, message: type[DocumentChunked | ChunksEmbedded], stage: str) -> Dead | None:
    try:
        ref = message.FromString(letter.value).document
    except DecodeError:
        return None
    return Dead(
        key=messages.key_from(ref),
        version=ref.version,
        problem=f"{stage} gave up: {letter.reason}; see `anabranch dlq show`, and replay it when the cause is gone",
        trace=trace_of(letter.headers),
    )


def _own(letter: DeadLetter) -> DeadChange | None:
    key = DocumentKey.parse(letter.key)
    if letter.cause is Cause.UNREADABLE or key is None:
        return None
    return DeadChange(
        key=key,
        version=0,
        event_id=letter.event_id,
        problem=f"ingestion gave up: {letter.reason}; see `anabranch dlq show`, and replay it when the cause is gone",
        trace=trace_of(letter.headers),
    )
