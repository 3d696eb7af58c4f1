"""The use cases wired for tests, with short ways to put, delete and ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import text as sql

from anabranch.retrieval.v1.events_pb2 import DocumentIndexed
from anabranch_faults import Fault
from anabranch_retrieval.adapters.analysis import numbered
from anabranch_retrieval.adapters.catalogue import SqlCatalogue
from anabranch_retrieval.application import (
    IndexDocuments,
    Ranking,
    Reindexing,
    ReindexWorker,
    RemovalWorker,
    Retrieve,
)
from anabranch_retrieval.domain import (
    Change,
    CorpusKey,
    Deletion,
    DocumentKey,
    Question,
    SearchSettings,
)
from anabranch_retrieval.testing.doubles import HashEmbedder, HeldRerankers, MemoryIndex, document_of, model, part_of
from anabranch_store import Database

_ONE = model("hash-one")
_CORPUS = document_of("a").corpus


@dataclass
class World:
    """A service's inside, without its ways in: a real catalogue, the rest in memory."""

    database: Database
    catalogue: SqlCatalogue
    index: MemoryIndex
    embedder: HashEmbedder
    rerankers: HeldRerankers = field(default_factory=HeldRerankers)

    def __post_init__(self) -> None:
        """Wires the use cases."""
        index, catalogue, embedder = self.index, self.catalogue, self.embedder
        self.indexing = IndexDocuments(
            index=index, catalogue=catalogue, embedder=embedder, grace=timedelta(0), patience=(timedelta(0),)
        )
        self.retrieve = Retrieve(
            index=index,
            catalogue=catalogue,
            embedder=embedder,
            ranking=Ranking(terms=numbered(), rerankers=self.rerankers),
        )
        self.remover = RemovalWorker(index=index, catalogue=catalogue)
        self.reindexer = ReindexWorker(
            index=index, catalogue=catalogue, embedder=embedder, pause=timedelta(milliseconds=10)
        )
        self.reindexing = Reindexing(index=index, catalogue=catalogue, embedder=embedder, worker=self.reindexer)

    async def put(self, document: DocumentKey, version: int, *texts: str, **more: object) -> Change:
        """Index one version in one part, with vectors of the model `hash-one`."""
        change = part_of(document, version, texts, of=_ONE, **more)  # type: ignore[arg-type]
        _raise_first(await self.indexing([change]))
        return change

    async def put_all(self, texts: dict[str, str]) -> None:
        """Index first versions, document id to text, in one batch."""
        changes = [part_of(document_of(name), 1, [text], of=_ONE) for name, text in texts.items()]
        _raise_first(await self.indexing(changes))

    async def delete(self, document: DocumentKey, version: int) -> None:
        """Delete as of that version."""
        deletion = Deletion(event_id=f"delete-{version}", document=document, version=version, caused_by="c")
        _raise_first(await self.indexing([deletion]))

    async def ask(self, text: str, *, corpus: CorpusKey = _CORPUS, top_k: int = 10, **more: object) -> list[str]:
        """Texts found, best first, near-duplicates included."""
        settings = SearchSettings(top_k=top_k, keep_duplicates=True)
        answer = await self.retrieve(Question(corpus=corpus, text=text, settings=settings, **more))  # type: ignore[arg-type]
        return [passage.hit.chunk.text for passage in answer.passages]

    async def generation(self, corpus: CorpusKey = _CORPUS) -> int:
        """The corpus's generation, -1 when there is no corpus."""
        found = await self.catalogue.corpus(corpus)
        return found.generation if found is not None else -1

    async def announced(self) -> list[tuple[str, bool]]:
        """What waits in the outbox, in order: document@version, and whether it was deleted."""
        async with self.database.reading() as tx:
            rows = (await tx.execute(sql("SELECT value FROM outbox ORDER BY id"))).scalars()
            events = [DocumentIndexed.FromString(row) for row in rows]
        return [(f"{event.document.document_id}@{event.document.version}", event.deleted) for event in events]


def _raise_first(faults: dict[str, Fault]) -> None:
    for fault in faults.values():
        raise fault
