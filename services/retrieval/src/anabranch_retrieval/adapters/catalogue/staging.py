"""Staging changes in one transaction, and what publishing shares with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from anabranch_retrieval.adapters.catalogue import rows
from anabranch_retrieval.adapters.catalogue.tables import CHUNKS, CORPORA, DOCUMENTS
from anabranch_retrieval.adapters.stored import pack
from anabranch_retrieval.application.ports import Staged
from anabranch_retrieval.domain import Change, Corpus, CorpusKey, Deletion, DocumentKey, Part

_AT_ONCE = 500  # documents in one IN list


async def stage(tx: AsyncSession, changes: Sequence[Change]) -> Staged:
    """As Catalogue.stage."""
    documents = await known_documents(tx, changes)
    fresh = [change for change in changes if is_news(change, documents.get(change.document))]
    parts = [change for change in fresh if isinstance(change, Part)]
    if not parts:
        return Staged(fresh=frozenset(change.event_id for change in fresh), corpora={})
    add = upsert(tx)
    now = datetime.now(UTC)
    models = {part.document.corpus: part.model for part in reversed(parts)}
    opened = [
        {
            "tenant": key.tenant,
            "corpus": key.corpus,
            "live_model": rows.model_text(model),
            "generation": 0,
            "document_count": 0,
            "chunk_count": 0,
            "changed_at": now,
            "pointed": False,
        }
        for key, model in sorted(models.items())
    ]
    await tx.execute(add(CORPORA).on_conflict_do_nothing(), opened)
    coming = add(DOCUMENTS)
    raised = coming.on_conflict_do_update(
        index_elements=["tenant", "corpus", "document_id"],
        set_={
            "dirty": or_(DOCUMENTS.c.dirty, DOCUMENTS.c.newest != coming.excluded.newest),
            "newest": coming.excluded.newest,
            "deleted": False,
        },
    )
    unique = sorted({(part.document, part.version) for part in parts})
    await tx.execute(
        raised,
        [
            document_row(document)
            | {"newest": version, "deleted": False, "chunk_count": 0, "generation": 0, "dirty": False}
            for document, version in unique
        ],
    )
    await keep_chunks(tx, parts)
    return Staged(
        fresh=frozenset(change.event_id for change in fresh), corpora=await corpora_of(tx, models, lock=False)
    )


async def keep_chunks(tx: AsyncSession, parts: Iterable[Part]) -> None:
    """List the chunks of these parts."""
    await tx.execute(
        upsert(tx)(CHUNKS).on_conflict_do_nothing(),
        [
            {
                "tenant": part.document.corpus.tenant,
                "corpus": part.document.corpus.corpus,
                "chunk_id": entry.chunk.id,
                "document_id": part.document.document_id,
                "version": part.version,
                "payload": pack(entry.chunk),
            }
            for part in parts
            for entry in part.entries
        ],
    )


def is_news(change: Change, known: Row[Any] | None) -> bool:
    """Whether the change says something that the document's row does not."""
    if known is None or change.version > known.newest:
        return True
    if change.version < known.newest or known.deleted:
        return False
    return isinstance(change, Deletion) or known.live != change.version


def upsert(tx: AsyncSession) -> Any:
    """The dialect's INSERT that can bear conflicts."""
    return postgresql.insert if tx.get_bind().dialect.name == "postgresql" else sqlite.insert


def document_row(document: DocumentKey) -> dict[str, Any]:
    """The key columns of a document."""
    corpus = document.corpus
    return {"tenant": corpus.tenant, "corpus": corpus.corpus, "document_id": document.document_id}


async def known_documents(tx: AsyncSession, changes: Sequence[Change]) -> dict[DocumentKey, Row[Any]]:
    """What is known of the documents; their rows stay locked where the database locks rows."""
    found: dict[DocumentKey, Row[Any]] = {}
    by_corpus: dict[CorpusKey, set[str]] = {}
    for change in changes:
        by_corpus.setdefault(change.document.corpus, set()).add(change.document.document_id)
    for key, ids in sorted(by_corpus.items()):
        ordered = sorted(ids)
        for start in range(0, len(ordered), _AT_ONCE):
            some = ordered[start : start + _AT_ONCE]
            statement = (
                select(DOCUMENTS)
                .where(rows.of(DOCUMENTS, key), DOCUMENTS.c.document_id.in_(some))
                .order_by(DOCUMENTS.c.document_id)
                .with_for_update()
            )
            for row in await tx.execute(statement):
                found[DocumentKey(corpus=key, document_id=row.document_id)] = row
    return found


async def corpora_of(tx: AsyncSession, keys: Iterable[CorpusKey], *, lock: bool) -> dict[CorpusKey, Corpus]:
    """Corpora by key; locked against other publications and reindexes where asked."""
    wanted = sorted(keys)
    if not wanted:
        return {}
    statement = (
        select(CORPORA)
        .where(or_(*(rows.of(CORPORA, key) for key in wanted)))
        .order_by(CORPORA.c.tenant, CORPORA.c.corpus)
    )
    found = await tx.execute(statement.with_for_update() if lock else statement)
    return {corpus.key: corpus for corpus in map(rows.corpus_from, found)}
