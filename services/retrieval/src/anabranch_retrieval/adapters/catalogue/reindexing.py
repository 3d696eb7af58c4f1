"""Runs of reindexing, and the pointers they move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from anabranch_faults import Conflict, NotFound
from anabranch_retrieval.adapters.catalogue import rows
from anabranch_retrieval.adapters.catalogue.tables import CHUNKS, CORPORA, DOCUMENTS, INDEXED, REINDEXES, RETIRED
from anabranch_retrieval.adapters.stored import unpack
from anabranch_retrieval.domain import Chunk, Corpus, CorpusKey, Edition, Entry, Model, Reindex, ReindexState

_RUNNING = [state.value for state in ReindexState if state.running]


async def begin(tx: AsyncSession, key: CorpusKey, to: Model, *, grace: timedelta) -> Reindex:
    """As Catalogue.start_reindex."""
    corpus = await _locked(tx, key)
    if corpus.building is not None:
        raise Conflict(
            f"a reindex of {key.corpus} to {corpus.building.version} is under way: wait for it, or roll it back",
            field="corpus",
            reason="REINDEX_RUNNING",
        )
    if to.version == corpus.live.version:
        raise Conflict(f"{key.corpus} is served under {to.version} already", field="to_version", reason="ALREADY_LIVE")
    waiting = select(RETIRED.c.model).where(rows.of(RETIRED, key), RETIRED.c.embedding_version == to.version)
    if (await tx.execute(waiting)).first() is not None:
        raise Conflict(
            f"an earlier edition of {key.corpus} under {to.version} is being dropped: try again in some seconds",
            field="to_version",
            reason="EDITION_RETIRING",
        )
    if corpus.previous is not None and corpus.previous.version != to.version:
        await _retire(tx, key, corpus.previous, grace=grace)
    await _point(tx, key, building_model=rows.model_text(to), previous_model=None)
    started = (
        insert(REINDEXES)
        .values(
            tenant=key.tenant,
            corpus=key.corpus,
            from_version=corpus.live.version,
            to_version=to.version,
            state=ReindexState.BACKFILLING.value,
            chunks_done=0,
            chunks_total=corpus.chunk_count,
            problem="",
            started_at=datetime.now(UTC),
        )
        .returning(REINDEXES)
    )
    return rows.reindex_from((await tx.execute(started)).one())


async def last(tx: AsyncSession, key: CorpusKey) -> Reindex | None:
    """As Catalogue.last_reindex."""
    statement = select(REINDEXES).where(rows.of(REINDEXES, key)).order_by(REINDEXES.c.id.desc()).limit(1)
    row = (await tx.execute(statement)).first()
    return rows.reindex_from(row) if row is not None else None


async def running(tx: AsyncSession) -> list[tuple[Reindex, Edition]]:
    """As Catalogue.running_reindexes."""
    joined = and_(CORPORA.c.tenant == REINDEXES.c.tenant, CORPORA.c.corpus == REINDEXES.c.corpus)
    statement = (
        select(REINDEXES, CORPORA.c.building_model)
        .join(CORPORA, joined)
        .where(REINDEXES.c.state.in_(_RUNNING), CORPORA.c.building_model.is_not(None))
        .order_by(REINDEXES.c.id)
    )
    found = [(rows.reindex_from(row), rows.model_from(row.building_model)) for row in await tx.execute(statement)]
    return [(run, Edition(corpus=run.corpus, model=model)) for run, model in found]


async def live(tx: AsyncSession, key: CorpusKey, *, after: str, limit: int) -> list[Chunk]:
    """As Catalogue.live."""
    wanted = _live(key).add_columns(CHUNKS.c.payload).where(CHUNKS.c.chunk_id > after)
    found = await tx.execute(wanted.order_by(CHUNKS.c.chunk_id).limit(limit))
    return [unpack(row.payload, key) for row in found]


async def unindexed(tx: AsyncSession, edition: Edition, *, after: str, limit: int) -> tuple[list[Chunk], str]:
    """As Catalogue.unindexed; the fixed order is that of the chunk ids."""
    statement = _lacking(edition).where(CHUNKS.c.chunk_id > after).order_by(CHUNKS.c.chunk_id).limit(limit)
    found = (await tx.execute(statement)).all()
    chunks = [unpack(row.payload, edition.corpus) for row in found]
    return chunks, chunks[-1].id if chunks else after


async def backfilled(tx: AsyncSession, run: Reindex, edition: Edition, entries: Sequence[Entry]) -> list[str]:
    """As Catalogue.backfilled."""
    if not entries:
        return []
    ids = [entry.chunk.id for entry in entries]
    live = set((await tx.execute(_live(edition.corpus).where(CHUNKS.c.chunk_id.in_(ids)))).scalars())
    add: Any = postgresql.insert if tx.get_bind().dialect.name == "postgresql" else sqlite.insert
    held = [
        {
            "tenant": edition.corpus.tenant,
            "corpus": edition.corpus.corpus,
            "embedding_version": edition.model.version,
            "chunk_id": entry.chunk.id,
            "sentence_vectors": entry.sentence_vectors,
        }
        for entry in entries
        if entry.chunk.id in live
    ]
    if held:
        await tx.execute(add(INDEXED).on_conflict_do_nothing(), held)
    done = REINDEXES.c.chunks_done + len(held)
    await tx.execute(
        update(REINDEXES)
        .where(REINDEXES.c.id == int(run.id), REINDEXES.c.state.in_(_RUNNING))
        .values(chunks_done=done, problem="")
    )
    return [chunk_id for chunk_id in ids if chunk_id not in live]


async def swap(tx: AsyncSession, run: Reindex) -> bool:
    """As Catalogue.swap."""
    corpus = await _locked(tx, run.corpus)
    if corpus.building is None or corpus.building.version != run.to_version:
        return False
    edition = corpus.edition(corpus.building)
    if (await tx.execute(_lacking(edition).limit(1))).first() is not None:
        await _state(tx, run, state=ReindexState.CATCHING_UP.value)
        return False
    await _point(
        tx,
        run.corpus,
        live_model=rows.model_text(corpus.building),
        building_model=None,
        previous_model=rows.model_text(corpus.live),
        generation=corpus.generation + 1,
        pointed=False,
        changed_at=datetime.now(UTC),
    )
    count = corpus.chunk_count
    now = datetime.now(UTC)
    swapped = ReindexState.SWAPPED.value
    await _state(tx, run, state=swapped, chunks_done=count, chunks_total=count, problem="", finished_at=now)
    return True


async def note(tx: AsyncSession, run: Reindex, problem: str, *, failed: bool, grace: timedelta) -> None:
    """As Catalogue.note."""
    if not failed:
        await _state(tx, run, problem=problem)
        return
    corpus = await _locked(tx, run.corpus)
    if corpus.building is not None and corpus.building.version == run.to_version:
        await _retire(tx, run.corpus, corpus.building, grace=grace)
        await _point(tx, run.corpus, building_model=None)
    await _state(tx, run, state=ReindexState.FAILED.value, problem=problem, finished_at=datetime.now(UTC))


async def let_go(tx: AsyncSession, *, older_than: timedelta, grace: timedelta) -> None:
    """Give up previous editions whose swap is long past."""
    held = select(CORPORA).where(CORPORA.c.previous_model.is_not(None)).with_for_update()
    for corpus in [rows.corpus_from(row) for row in await tx.execute(held)]:
        run = await last(tx, corpus.key)
        finished = run.finished_at if run is not None else None
        if corpus.previous is not None and finished is not None and finished < datetime.now(UTC) - older_than:
            await _retire(tx, corpus.key, corpus.previous, grace=grace)
            await _point(tx, corpus.key, previous_model=None)


async def roll_back(tx: AsyncSession, key: CorpusKey, *, grace: timedelta) -> Reindex:
    """As Catalogue.roll_back."""
    corpus = await _locked(tx, key)
    run = await last(tx, key)
    if run is None:
        raise NotFound(f"corpus {key.corpus} was never reindexed", field="corpus", reason="NO_REINDEX")
    if corpus.building is not None:
        await _retire(tx, key, corpus.building, grace=grace)
        await _point(tx, key, building_model=None)
    elif run.state is ReindexState.SWAPPED and corpus.previous is not None:
        await _point(
            tx,
            key,
            live_model=rows.model_text(corpus.previous),
            previous_model=rows.model_text(corpus.live),
            generation=corpus.generation + 1,
            pointed=False,
            changed_at=datetime.now(UTC),
        )
    else:
        raise Conflict(
            f"the last reindex of {key.corpus} is {run.state.value}: there is nothing to go back from",
            field="corpus",
            reason="NOTHING_TO_ROLL_BACK",
        )
    now = datetime.now(UTC)
    await tx.execute(
        update(REINDEXES)
        .where(REINDEXES.c.id == int(run.id))
        .values(state=ReindexState.ROLLED_BACK.value, finished_at=now)
    )
    return replace(run, state=ReindexState.ROLLED_BACK, finished_at=now)


def _live(key: CorpusKey) -> Select[Any]:
    return (
        select(CHUNKS.c.chunk_id)
        .join(
            DOCUMENTS,
            and_(
                DOCUMENTS.c.tenant == CHUNKS.c.tenant,
                DOCUMENTS.c.corpus == CHUNKS.c.corpus,
                DOCUMENTS.c.document_id == CHUNKS.c.document_id,
                DOCUMENTS.c.live == CHUNKS.c.version,
            ),
        )
        .where(rows.of(CHUNKS, key))
    )


def _lacking(edition: Edition) -> Select[Any]:
    """Live chunks that the edition does not have."""
    held = and_(
        INDEXED.c.tenant == CHUNKS.c.tenant,
        INDEXED.c.corpus == CHUNKS.c.corpus,
        INDEXED.c.embedding_version == edition.model.version,
        INDEXED.c.chunk_id == CHUNKS.c.chunk_id,
    )
    return _live(edition.corpus).add_columns(CHUNKS.c.payload).where(~select(INDEXED.c.chunk_id).where(held).exists())


async def _locked(tx: AsyncSession, key: CorpusKey) -> Corpus:
    row = (await tx.execute(select(CORPORA).where(rows.of(CORPORA, key)).with_for_update())).first()
    if row is None:
        raise NotFound(f"there is no corpus {key.corpus}", field="corpus", reason="NO_CORPUS")
    return rows.corpus_from(row)


async def _point(tx: AsyncSession, key: CorpusKey, **values: Any) -> None:
    await tx.execute(update(CORPORA).where(rows.of(CORPORA, key)).values(**values))


async def _state(tx: AsyncSession, run: Reindex, **values: Any) -> None:
    running_run = and_(REINDEXES.c.id == int(run.id), REINDEXES.c.state.in_(_RUNNING))
    await tx.execute(update(REINDEXES).where(running_run).values(**values))


async def _retire(tx: AsyncSession, key: CorpusKey, model: Model, *, grace: timedelta) -> None:
    row = {"embedding_version": model.version, "model": rows.model_text(model), "due_at": datetime.now(UTC) + grace}
    await tx.execute(insert(RETIRED).values(tenant=key.tenant, corpus=key.corpus, **row))
