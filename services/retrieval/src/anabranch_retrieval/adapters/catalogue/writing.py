"""Publishing changes in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from anabranch_retrieval.adapters.catalogue import rows
from anabranch_retrieval.adapters.catalogue.staging import (
    corpora_of,
    document_row,
    is_news,
    keep_chunks,
    known_documents,
    upsert,
)
from anabranch_retrieval.adapters.catalogue.tables import CORPORA, DOCUMENTS, INDEXED, PARTS, REMOVALS
from anabranch_retrieval.application.ports import Written
from anabranch_retrieval.domain import (
    Announcement,
    Change,
    Corpus,
    CorpusKey,
    Deletion,
    Part,
)
from anabranch_retrieval.messages import GROUP
from anabranch_store import Encoded, Inbox, Outbox

Encode = Callable[[Announcement], Encoded]


@dataclass(slots=True, kw_only=True)
class Publication:
    """One transaction that makes changes visible; rows are gathered, then written a table at a time."""

    tx: AsyncSession
    encode: Encode
    grace: timedelta
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    _documents: list[dict[str, Any]] = field(default_factory=list)
    _indexed: list[dict[str, Any]] = field(default_factory=list)
    _removals: list[dict[str, Any]] = field(default_factory=list)
    _events: list[Encoded] = field(default_factory=list)
    _corpora: dict[CorpusKey, Corpus] = field(default_factory=dict)
    _counts: dict[CorpusKey, list[int]] = field(default_factory=dict)  # generation, documents, chunks

    async def __call__(self, written: Sequence[Written]) -> list[Change]:
        """As Catalogue.publish."""
        keys = {one.change.document.corpus for one in written}
        # The lock on the corpora keeps reindexes and other publications of theirs out until the commit.
        self._corpora = await corpora_of(self.tx, keys, lock=True)
        self._counts = {
            key: [one.generation, one.document_count, one.chunk_count] for key, one in self._corpora.items()
        }
        lacking = [one.change for one in written if self._lacks(one)]
        complete = [one for one in written if one.change not in lacking]
        fresh = await Inbox.claim(self.tx, GROUP, [one.change.event_id for one in complete])
        documents = await known_documents(self.tx, [one.change for one in complete])
        for one in complete:
            if one.change.event_id not in fresh:
                continue
            known = documents.get(one.change.document)
            if not is_news(one.change, known):
                await self._late(one.change)
            elif isinstance(one.change, Part):
                await self._part(one.change, one, known)
            else:
                self._deletion(one.change, known)
        await self._flush()
        return lacking

    def _lacks(self, one: Written) -> bool:
        if not isinstance(one.change, Part):
            return False
        maintained = self._corpora[one.change.document.corpus].maintained
        return not {model.version for model in maintained} <= one.entries.keys()

    async def _late(self, change: Change) -> None:
        # A newer version came while this was written: what was written must go again.
        if isinstance(change, Part):
            await keep_chunks(self.tx, [change])
            self._remove(change, generation=0)

    async def _part(self, part: Part, one: Written, known: Row[Any] | None) -> None:
        key = part.document.corpus
        self._indexed += [
            {
                "tenant": key.tenant,
                "corpus": key.corpus,
                "embedding_version": version,
                "chunk_id": entry.chunk.id,
                "sentence_vectors": entry.sentence_vectors,
            }
            for version, entries in one.entries.items()
            for entry in entries
        ]
        if part.parts > 1 and not await self._last_part(part):
            return
        counts = self._counts[key]
        counts[0] += 1
        seen = known is not None and known.live is not None
        counts[1] += 0 if seen else 1
        counts[2] += part.chunk_count - (known.chunk_count if known is not None and seen else 0)
        self._document(part, live=part.version, deleted=False, chunk_count=part.chunk_count, generation=counts[0])
        if known is not None and known.dirty:
            self._remove(part, generation=counts[0])
        self._events.append(self.encode(self._announcement(part, counts[0])))

    async def _last_part(self, part: Part) -> bool:
        row = document_row(part.document) | {"version": part.version, "part": part.part}
        await self.tx.execute(upsert(self.tx)(PARTS).on_conflict_do_nothing(), [row])
        mine = (
            rows.of(PARTS, part.document.corpus),
            PARTS.c.document_id == part.document.document_id,
        )
        counted = select(func.count()).select_from(PARTS).where(*mine, PARTS.c.version == part.version)
        if (await self.tx.execute(counted)).scalar_one() < part.parts:
            return False
        await self.tx.execute(delete(PARTS).where(*mine, PARTS.c.version <= part.version))
        return True

    def _deletion(self, deletion: Change, known: Row[Any] | None) -> None:
        counts = self._counts.get(deletion.document.corpus, [0, 0, 0])
        visible = known is not None and known.live is not None
        if visible and known is not None:
            counts[0] += 1
            counts[1] -= 1
            counts[2] -= known.chunk_count
        self._document(deletion, live=None, deleted=True, chunk_count=0, generation=counts[0])
        self._remove(deletion, generation=counts[0])

    def _document(self, change: Change, **values: Any) -> None:
        self._documents.append(document_row(change.document) | {"newest": change.version, "dirty": False} | values)

    def _remove(self, change: Change, *, generation: int) -> None:
        corpus = self._corpora.get(change.document.corpus)
        announced = change.event_id if isinstance(change, Deletion) else None
        self._removals.append(
            document_row(change.document)
            | {
                "due_at": self.now + self.grace,
                "event_id": announced,
                "caused_by": change.caused_by,
                "version": change.version,
                "generation": generation,
                "embedding_version": corpus.live.version if corpus is not None else "",
            }
        )

    def _announcement(self, part: Part, generation: int) -> Announcement:
        return Announcement(
            cause=part.event_id,
            document=part.document,
            version=part.version,
            caused_by=part.caused_by,
            deleted=False,
            generation=generation,
            embedding_version=self._corpora[part.document.corpus].live.version,
            chunk_count=part.chunk_count,
            at=self.now,
        )

    async def _flush(self) -> None:
        add = upsert(self.tx)
        if self._documents:
            seen = add(DOCUMENTS)
            changed = ("newest", "live", "deleted", "chunk_count", "generation", "dirty")
            values = {name: seen.excluded[name] for name in changed}
            statement = seen.on_conflict_do_update(index_elements=["tenant", "corpus", "document_id"], set_=values)
            await self.tx.execute(statement, self._documents)
        if self._indexed:
            held = add(INDEXED)
            statement = held.on_conflict_do_update(
                index_elements=["tenant", "corpus", "embedding_version", "chunk_id"],
                set_={"sentence_vectors": held.excluded.sentence_vectors},
            )
            await self.tx.execute(statement, self._indexed)
        if self._removals:
            await self.tx.execute(insert(REMOVALS), self._removals)
        changed_corpora = [
            {"of_tenant": key.tenant, "of_corpus": key.corpus, "g": counts[0], "d": counts[1], "c": counts[2]}
            for key, counts in self._counts.items()
            if counts[0] != self._corpora[key].generation
        ]
        for values in changed_corpora:
            await self.tx.execute(_COUNT, values | {"at": self.now})
        await Outbox.add(self.tx, *self._events)


_COUNT = (
    update(CORPORA)
    .where(CORPORA.c.tenant == bindparam("of_tenant"), CORPORA.c.corpus == bindparam("of_corpus"))
    .values(
        generation=bindparam("g"), document_count=bindparam("d"), chunk_count=bindparam("c"), changed_at=bindparam("at")
    )
)
