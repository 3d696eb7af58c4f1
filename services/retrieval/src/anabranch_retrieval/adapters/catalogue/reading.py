"""What a query needs to know, in as few reads as can be."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import and_, bindparam, case, null, or_, select

from anabranch_retrieval.adapters.catalogue import rows
from anabranch_retrieval.adapters.catalogue.tables import CHUNKS, CORPORA, DOCUMENTS, INDEXED
from anabranch_retrieval.adapters.stored import unpack
from anabranch_retrieval.application.ports import Shown
from anabranch_retrieval.domain import Corpus, CorpusKey
from anabranch_store import Database

_LIVE = and_(
    DOCUMENTS.c.tenant == CHUNKS.c.tenant,
    DOCUMENTS.c.corpus == CHUNKS.c.corpus,
    DOCUMENTS.c.document_id == CHUNKS.c.document_id,
)
_IS_LIVE = DOCUMENTS.c.live == CHUNKS.c.version
# What is not live is not read: it may be large, and nobody is shown it.
_SHOWN = (
    select(
        CHUNKS.c.chunk_id,
        case((_IS_LIVE, CHUNKS.c.payload), else_=null()).label("payload"),
        case((_IS_LIVE, INDEXED.c.sentence_vectors), else_=null()).label("sentence_vectors"),
        DOCUMENTS.c.generation,
    )
    .join(DOCUMENTS, _LIVE)
    .outerjoin(
        INDEXED,
        and_(
            INDEXED.c.tenant == CHUNKS.c.tenant,
            INDEXED.c.corpus == CHUNKS.c.corpus,
            INDEXED.c.embedding_version == bindparam("embedding_version"),
            INDEXED.c.chunk_id == CHUNKS.c.chunk_id,
        ),
    )
    .where(
        CHUNKS.c.tenant == bindparam("tenant"),
        CHUNKS.c.corpus == bindparam("corpus"),
        CHUNKS.c.chunk_id.in_(bindparam("chunk_ids", expanding=True)),
    )
)
_ONE = select(CORPORA).where(CORPORA.c.tenant == bindparam("tenant"), CORPORA.c.corpus == bindparam("corpus"))
_ONE_OF_FILE = (
    "SELECT live_model, building_model, previous_model, generation, document_count, chunk_count, changed_at "
    "FROM corpora WHERE tenant = ? AND corpus = ?"
)
_AT_ONCE = 500


class CorpusReader:
    """Reads corpora: once for every search.

    From PostgreSQL, calls that wait for the same moment share one read. A call is answered by a read that began after
    it, so it sees every change committed before it was made.

    From an SQLite file it reads at once, on the event loop, over a connection of its own: one row by its key takes
    20 us, whereas the way through a thread and back takes 1 ms of processor time, a tenth of all that a search costs.
    """

    def __init__(self, database: Database) -> None:
        """Reads nothing yet."""
        self._database = database
        self._file: sqlite3.Connection | None = None
        self._waiting: dict[CorpusKey, asyncio.Future[Corpus | None]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def __call__(self, key: CorpusKey) -> Corpus | None:
        """The corpus, or None."""
        if self._database.path is not None:
            try:
                return self._read_file(self._database.path, key)
            except sqlite3.OperationalError:  # locked, for a moment
                self.close()
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = asyncio.get_running_loop().create_future()
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        # One caller that gives up must not take the answer from the others.
        return await asyncio.shield(waiting)

    def close(self) -> None:
        """Close the connection of its own."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read_file(self, path: Path, key: CorpusKey) -> Corpus | None:
        if self._file is None:
            self._file = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0)
            self._file.isolation_level = None
        row = self._file.execute(_ONE_OF_FILE, (key.tenant, key.corpus)).fetchone()
        if row is None:
            return None
        live, building, previous, generation, documents, chunks, changed_at = row
        return Corpus(
            key=key,
            live=rows.model_from(live),
            building=rows.model_from(building) if building else None,
            previous=rows.model_from(previous) if previous else None,
            generation=generation,
            document_count=documents,
            chunk_count=chunks,
            changed_at=datetime.fromisoformat(changed_at).replace(tzinfo=UTC),
        )

    async def _read(self) -> None:
        while self._waiting:
            wanted, self._waiting = self._waiting, {}
            try:
                found = await self._fetch(list(wanted))
            except BaseException as error:
                for waiting in wanted.values():
                    if isinstance(error, Exception):
                        waiting.set_exception(error)
                        waiting.exception()  # seen, even when nobody waits any more
                    else:
                        waiting.cancel()
                if not isinstance(error, Exception):
                    raise
            else:
                for key, waiting in wanted.items():
                    waiting.set_result(found.get(key))

    async def _fetch(self, keys: Sequence[CorpusKey]) -> dict[CorpusKey, Corpus]:
        async with self._database.reading() as tx:
            if len(keys) == 1:
                result = await tx.execute(_ONE, {"tenant": keys[0].tenant, "corpus": keys[0].corpus})
            else:
                result = await tx.execute(select(CORPORA).where(or_(*(rows.of(CORPORA, key) for key in keys))))
            corpora = [rows.corpus_from(row) for row in result]
        return {corpus.key: corpus for corpus in corpora}


async def shown(database: Database, key: CorpusKey, version: str, chunk_ids: Sequence[str]) -> dict[str, Shown]:
    """As Catalogue.shown."""
    found: dict[str, Shown] = {}
    async with database.reading() as tx:
        for start in range(0, len(chunk_ids), _AT_ONCE):
            values = {
                "tenant": key.tenant,
                "corpus": key.corpus,
                "embedding_version": version,
                "chunk_ids": list(chunk_ids[start : start + _AT_ONCE]),
            }
            for chunk_id, payload, sentence_vectors, generation in await tx.execute(_SHOWN, values):
                found[chunk_id] = Shown(
                    chunk=None if payload is None else unpack(payload, key),
                    sentence_vectors=sentence_vectors or b"",
                    changed=generation,
                )
    return found
