from __future__ import annotations

from anabranch import topics
from anabranch.ingestion.v1.events_pb2 import DOCUMENT_STATE_QUERYABLE, DocumentRef, DocumentStatusChanged
from anabranch_bus import MemoryBus
from anabranch_evaluation.adapters.memory import MemoryTally
from anabranch_evaluation.bootstrap import build
from anabranch_evaluation.domain.fates import Fate
from anabranch_evaluation.settings import Settings


def status(corpus: str) -> DocumentStatusChanged:
    return DocumentStatusChanged(
        document=DocumentRef(tenant="t", corpus=corpus, document_id="d"), state=DOCUMENT_STATE_QUERYABLE
    )


async def test_a_status_without_a_corpus_goes_to_the_dead_letters_and_its_neighbours_go_on() -> None:
    bus, tally = MemoryBus(), MemoryTally(most_corpora=2)
    build(Settings(), bus=bus, tally=tally)
    await bus.deliver(topics.INGESTION_DOCUMENT_STATUS, [status("a"), status(""), status("a")])
    assert await tally.count(Fate(tenant="t", corpus="a", state="queryable")) == 2
    assert len(bus.dead(topics.INGESTION_DOCUMENT_STATUS, "evaluation")) == 1
