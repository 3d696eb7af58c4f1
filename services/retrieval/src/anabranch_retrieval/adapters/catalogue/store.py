"""The Catalogue port on a database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy import select, update

from anabranch_retrieval.adapters.catalogue import reading, reindexing, removing, rows, staging, writing
from anabranch_retrieval.adapters.catalogue.tables import CORPORA
from anabranch_retrieval.application.ports import Shown, Staged, Written
from anabranch_retrieval.domain import Change, Chunk, Corpus, CorpusKey, Edition, Entry, Model, Reindex, Removal
from anabranch_store import Database, Inbox

SCHEMA: Final = "retrieval"
MIGRATIONS: Final = "anabranch_retrieval.adapters.catalogue.migrations"
_REMEMBERED: Final = timedelta(days=8)  # no topic is replayed from further back


class SqlCatalogue:
    """Corpora, documents and what readers are shown, in SQLite or PostgreSQL.

    retired_grace: how long an edition given up stays, for searches under way. previous_kept: how long the edition
    before a swap is kept up to date.
    """

    def __init__(
        self,
        database: Database,
        encode: writing.Encode,
        *,
        retired_grace: timedelta = timedelta(seconds=30),
        previous_kept: timedelta = timedelta(days=7),
    ) -> None:
        """Takes the database and the form announcements have on the bus."""
        self._database = database
        self._encode = encode
        self._grace = retired_grace
        self._kept = previous_kept
        self._corpus = reading.CorpusReader(database)

    async def corpus(self, key: CorpusKey) -> Corpus | None:
        """As the port says."""
        return await self._corpus(key)

    async def close(self) -> None:
        """Close what is not the database's."""
        self._corpus.close()

    async def corpora(self, tenant: str) -> list[Corpus]:
        """As the port says."""
        async with self._database.reading() as tx:
            found = await tx.execute(select(CORPORA).where(CORPORA.c.tenant == tenant).order_by(CORPORA.c.corpus))
            return [rows.corpus_from(row) for row in found]

    async def models_in_use(self) -> list[Edition]:
        """As the port says."""
        async with self._database.reading() as tx:
            corpora = [rows.corpus_from(row) for row in await tx.execute(select(CORPORA))]
        return [corpus.edition(corpus.live) for corpus in corpora]

    async def shown(self, key: CorpusKey, version: str, chunk_ids: Sequence[str]) -> dict[str, Shown]:
        """As the port says."""
        return await reading.shown(self._database, key, version, chunk_ids)

    async def live(self, key: CorpusKey, *, after: str, limit: int) -> list[Chunk]:
        """As the port says."""
        async with self._database.reading() as tx:
            return await reindexing.live(tx, key, after=after, limit=limit)

    async def stage(self, changes: Sequence[Change]) -> Staged:
        """As the port says."""
        async with self._database.transaction() as tx:
            return await staging.stage(tx, changes)

    async def publish(self, written: Sequence[Written], *, grace: timedelta) -> list[Change]:
        """As the port says."""
        async with self._database.transaction() as tx:
            return await writing.Publication(tx=tx, encode=self._encode, grace=grace)(written)

    async def removals(self, *, limit: int) -> list[Removal]:
        """As the port says."""
        async with self._database.reading() as tx:
            return await removing.due(tx, limit=limit)

    async def removed(self, done: Sequence[Removal]) -> None:
        """As the port says."""
        async with self._database.transaction() as tx:
            await removing.forget(tx, done, self._encode)

    async def unpointed(self) -> list[Edition]:
        """As the port says."""
        async with self._database.reading() as tx:
            found = await tx.execute(select(CORPORA).where(CORPORA.c.pointed.is_(False)))
            corpora = [rows.corpus_from(row) for row in found]
        return [corpus.edition(corpus.live) for corpus in corpora]

    async def pointed(self, edition: Edition) -> None:
        """As the port says."""
        async with self._database.transaction() as tx:
            # Unless another swap came in between: then the name has to move again.
            still = CORPORA.c.live_model == rows.model_text(edition.model)
            await tx.execute(update(CORPORA).where(rows.of(CORPORA, edition.corpus), still).values(pointed=True))

    async def start_reindex(self, key: CorpusKey, to: Model) -> Reindex:
        """As the port says."""
        async with self._database.transaction() as tx:
            return await reindexing.begin(tx, key, to, grace=self._grace)

    async def last_reindex(self, key: CorpusKey) -> Reindex | None:
        """As the port says."""
        async with self._database.reading() as tx:
            return await reindexing.last(tx, key)

    async def running_reindexes(self) -> list[tuple[Reindex, Edition]]:
        """As the port says."""
        async with self._database.reading() as tx:
            return await reindexing.running(tx)

    async def unindexed(self, edition: Edition, *, after: str, limit: int) -> tuple[list[Chunk], str]:
        """As the port says."""
        async with self._database.reading() as tx:
            return await reindexing.unindexed(tx, edition, after=after, limit=limit)

    async def backfilled(self, run: Reindex, edition: Edition, entries: Sequence[Entry]) -> list[str]:
        """As the port says."""
        async with self._database.transaction() as tx:
            return await reindexing.backfilled(tx, run, edition, entries)

    async def swap(self, run: Reindex) -> bool:
        """As the port says."""
        async with self._database.transaction() as tx:
            return await reindexing.swap(tx, run)

    async def note(self, run: Reindex, problem: str, *, failed: bool) -> None:
        """As the port says."""
        async with self._database.transaction() as tx:
            await reindexing.note(tx, run, problem, failed=failed, grace=self._grace)

    async def roll_back(self, key: CorpusKey) -> Reindex:
        """As the port says."""
        async with self._database.transaction() as tx:
            return await reindexing.roll_back(tx, key, grace=self._grace)

    async def retired(self) -> list[Edition]:
        """As the port says."""
        async with self._database.reading() as tx:
            return await removing.retired(tx)

    async def tidy(self) -> None:
        """As the port says."""
        async with self._database.transaction() as tx:
            await Inbox.forget(tx, older_than=_REMEMBERED)
            await reindexing.let_go(tx, older_than=self._kept, grace=self._grace)

    async def dropped(self, edition: Edition) -> None:
        """As the port says."""
        async with self._database.transaction() as tx:
            await removing.dropped(tx, edition)
