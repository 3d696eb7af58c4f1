"""The list of what has to be taken out of the index."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import and_, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from anabranch_retrieval.adapters.catalogue import rows
from anabranch_retrieval.adapters.catalogue.tables import CHUNKS, DOCUMENTS, INDEXED, PARTS, REMOVALS, RETIRED
from anabranch_retrieval.adapters.catalogue.writing import Encode
from anabranch_retrieval.domain import Announcement, CorpusKey, DocumentKey, Edition, Removal
from anabranch_store import Outbox

_AT_ONCE = 500


async def due(tx: AsyncSession, *, limit: int) -> list[Removal]:
    """As Catalogue.removals: what is due, with the chunks that neither are live nor may become so."""
    statement = select(REMOVALS).where(REMOVALS.c.due_at <= datetime.now(UTC)).order_by(REMOVALS.c.id).limit(limit)
    found = []
    for row in (await tx.execute(statement)).all():
        document = DocumentKey(corpus=CorpusKey(tenant=row.tenant, corpus=row.corpus), document_id=row.document_id)
        gone = (
            select(CHUNKS.c.chunk_id)
            .join(
                DOCUMENTS,
                and_(
                    DOCUMENTS.c.tenant == CHUNKS.c.tenant,
                    DOCUMENTS.c.corpus == CHUNKS.c.corpus,
                    DOCUMENTS.c.document_id == CHUNKS.c.document_id,
                ),
            )
            .where(
                rows.of(CHUNKS, document.corpus),
                CHUNKS.c.document_id == document.document_id,
                or_(DOCUMENTS.c.live.is_(None), CHUNKS.c.version != DOCUMENTS.c.live),
                or_(DOCUMENTS.c.deleted, CHUNKS.c.version < DOCUMENTS.c.newest),
            )
        )
        chunk_ids = tuple((await tx.execute(gone)).scalars())
        announcement = row.event_id and Announcement(
            cause=row.event_id,
            document=document,
            version=row.version,
            caused_by=row.caused_by,
            deleted=True,
            generation=row.generation,
            embedding_version=row.embedding_version,
            chunk_count=0,
            at=datetime.now(UTC),
        )
        found.append(Removal(id=row.id, document=document, chunk_ids=chunk_ids, announcement=announcement or None))
    return found


async def forget(tx: AsyncSession, done: Sequence[Removal], encode: Encode) -> None:
    """As Catalogue.removed. Of several replicas that did the same removal, the first to commit announces it."""
    taken = delete(REMOVALS).where(REMOVALS.c.id.in_([removal.id for removal in done])).returning(REMOVALS.c.id)
    mine = set((await tx.execute(taken)).scalars())
    for removal in done:
        for start in range(0, len(removal.chunk_ids), _AT_ONCE):
            some = removal.chunk_ids[start : start + _AT_ONCE]
            for table in (INDEXED, CHUNKS):
                await tx.execute(
                    delete(table).where(rows.of(table, removal.document.corpus), table.c.chunk_id.in_(some))
                )
        if removal.announcement is not None and removal.id in mine:
            await tx.execute(
                delete(PARTS).where(
                    rows.of(PARTS, removal.document.corpus),
                    PARTS.c.document_id == removal.document.document_id,
                    PARTS.c.version <= removal.announcement.version,
                )
            )
    announced = [one.announcement for one in done if one.announcement is not None and one.id in mine]
    await Outbox.add(tx, *(encode(announcement) for announcement in announced))


async def retired(tx: AsyncSession) -> list[Edition]:
    """As Catalogue.retired."""
    found = await tx.execute(select(RETIRED).where(RETIRED.c.due_at <= datetime.now(UTC)))
    return [
        Edition(corpus=CorpusKey(tenant=row.tenant, corpus=row.corpus), model=rows.model_from(row.model))
        for row in found
    ]


async def dropped(tx: AsyncSession, edition: Edition) -> None:
    """As Catalogue.dropped."""
    for table in (INDEXED, RETIRED):
        await tx.execute(
            delete(table).where(rows.of(table, edition.corpus), table.c.embedding_version == edition.model.version)
        )
