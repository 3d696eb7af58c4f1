"""Chunks in, chunks with vectors out."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from anabranch import topics
from anabranch.ingestion.v1.events_pb2 import DocumentChunked
from anabranch_bus import Batch, Bus, Outcome
from anabranch_embedding.application import EmbedChunks
from anabranch_embedding.entrypoints.messages import embedded_from, texts_of_part

__all__ = ["GROUP", "register"]

GROUP: Final = "embedding"

_MAX_RECORDS: Final = 32
# Parts of large documents from all partitions share the processor: a full batch may take a minute or two.
_STUCK_AFTER: Final = timedelta(minutes=5)


def register(bus: Bus, embed: EmbedChunks) -> None:
    """Declare the handler of ingestion.document.chunked."""

    @bus.subscriber(topics.INGESTION_DOCUMENT_CHUNKED, group=GROUP, max_records=_MAX_RECORDS, stuck_after=_STUCK_AFTER)
    async def on_document_chunked(records: Batch[DocumentChunked]) -> Outcome[DocumentChunked]:
        outcome = records.outcome()
        parts = outcome.parse(texts_of_part)
        identity, encoded = await embed([texts for _, texts in parts])
        for (record, _), encodings in zip(parts, encoded, strict=True):
            document = record.message.document
            outcome.publish(
                topics.EMBEDDING_CHUNKS_EMBEDDED,
                embedded_from(record.message, identity, encodings),
                key=f"{document.tenant}/{document.corpus}/{document.document_id}",
                caused_by=record,
            )
            # Copying a part of hundreds of chunks takes milliseconds; queries get their turn in between.
            await asyncio.sleep(0)
        return outcome
