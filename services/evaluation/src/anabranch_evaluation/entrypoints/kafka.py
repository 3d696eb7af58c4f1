"""A batch in, a fate per record; nothing else."""

from __future__ import annotations

from anabranch import topics
from anabranch.ingestion.v1.events_pb2 import DocumentState, DocumentStatusChanged
from anabranch_bus import Batch, Bus, Outcome
from anabranch_evaluation.application import CountFates
from anabranch_evaluation.domain.fates import Fate


def register(bus: Bus, count: CountFates) -> None:
    """Declares the handlers."""

    @bus.subscriber(topics.INGESTION_DOCUMENT_STATUS, group="evaluation")
    async def on_document_status(records: Batch[DocumentStatusChanged]) -> Outcome[DocumentStatusChanged]:
        outcome = records.outcome()
        await count(fate for _, fate in outcome.parse(fate_from_proto))
        return outcome


def fate_from_proto(message: DocumentStatusChanged) -> Fate:
    """Raises Invalid for a status that names no document."""
    return Fate(
        tenant=message.document.tenant,
        corpus=message.document.corpus,
        state=DocumentState.Name(message.state).removeprefix("DOCUMENT_STATE_").lower(),
    )
