"""The catalogue on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from anabranch_faults import Conflict
from anabranch_retrieval.adapters.announcements import encoded
from anabranch_retrieval.adapters.catalogue import MIGRATIONS, SCHEMA, SqlCatalogue
from anabranch_retrieval.application import Written
from anabranch_retrieval.domain import CorpusKey, Deletion, Edition
from anabranch_retrieval.testing import chunk_of, document_of, entry_of, model, part_of
from anabranch_store import Database

ONE = model()


class TestCatalogue:
    """The catalogue, on SQLite and PostgreSQL."""

    @pytest.fixture
    async def catalogue(self, database_url: str) -> AsyncIterator[SqlCatalogue]:
        database = Database(database_url, schema=SCHEMA, migrations=MIGRATIONS)
        await database.migrate()
        catalogue = SqlCatalogue(database, encoded, retired_grace=timedelta(0))
        yield catalogue
        await catalogue.close()
        await database.close()

    async def put(self, catalogue: SqlCatalogue, name: str, version: int, *texts: str) -> None:
        change = part_of(document_of(name), version, texts, of=ONE)
        await catalogue.stage([change])
        written = Written(change=change, entries={ONE.version: change.entries})
        assert await catalogue.publish([written], grace=timedelta(0)) == []

    async def test_concurrent_changes_of_a_corpus_each_get_a_generation(self, catalogue: SqlCatalogue) -> None:
        await asyncio.gather(*(self.put(catalogue, f"d{n}", 1, f"text {n}", "more") for n in range(12)))
        corpus = await catalogue.corpus(document_of("x").corpus)
        assert corpus is not None
        assert (corpus.generation, corpus.document_count, corpus.chunk_count) == (12, 12, 24)

    async def test_versions_past_two_to_the_53_are_told_apart(self, catalogue: SqlCatalogue) -> None:
        await self.put(catalogue, "d", 2**63 - 2, "old")
        await self.put(catalogue, "d", 2**63 - 1, "new")
        (removal,) = await catalogue.removals(limit=9)
        assert len(removal.chunk_ids) == 1
        await catalogue.removed([removal])
        assert await catalogue.removals(limit=9) == []

    async def test_what_is_shown_is_live_text_with_the_vectors_of_the_version_asked_for(
        self, catalogue: SqlCatalogue
    ) -> None:
        await self.put(catalogue, "d", 1, "old")
        await self.put(catalogue, "d", 2, "new")
        key = document_of("d").corpus
        old, new = (chunk_of(document_of("d"), version, 0, "x").id for version in (1, 2))
        shown = await catalogue.shown(key, ONE.version, [old, new, "unknown"])
        assert shown.keys() == {old, new}
        assert shown[old].chunk is None
        chunk = shown[new].chunk
        assert chunk is not None
        assert chunk.text == "new"
        assert len(shown[new].sentence_vectors) == ONE.dimension
        assert (await catalogue.shown(key, "other", [new]))[new].sentence_vectors == b""
        assert await catalogue.shown(CorpusKey(tenant="thief", corpus=key.corpus), ONE.version, [new]) == {}

    async def test_a_change_that_misses_an_edition_begun_meanwhile_is_given_back(self, catalogue: SqlCatalogue) -> None:
        await self.put(catalogue, "d", 1, "old")
        change = part_of(document_of("d"), 2, ["new"], of=ONE)
        await catalogue.stage([change])
        await catalogue.start_reindex(change.document.corpus, model("other"))
        written = Written(change=change, entries={ONE.version: change.entries})
        assert await catalogue.publish([written], grace=timedelta(0)) == [change]
        both = Written(change=change, entries={ONE.version: change.entries, "other": change.entries})
        assert await catalogue.publish([both], grace=timedelta(0)) == []

    async def test_a_change_overtaken_while_it_was_written_is_taken_out_again(self, catalogue: SqlCatalogue) -> None:
        slow = part_of(document_of("d"), 1, ["slow"], of=ONE)
        await catalogue.stage([slow])
        await self.put(catalogue, "d", 2, "fast")
        removals = await catalogue.removals(limit=9)
        assert len(removals) == 1
        await catalogue.removed(removals)
        written = Written(change=slow, entries={ONE.version: slow.entries})
        assert await catalogue.publish([written], grace=timedelta(0)) == []
        (removal,) = await catalogue.removals(limit=9)
        assert removal.chunk_ids == (slow.entries[0].chunk.id,)

    async def test_what_readers_may_see_is_listed_in_pages(self, catalogue: SqlCatalogue) -> None:
        await self.put(catalogue, "d", 1, "old")
        await self.put(catalogue, "d", 2, "one", "two")
        await self.put(catalogue, "e", 1, "three")
        await catalogue.stage([part_of(document_of("f"), 1, ["not yet"], of=ONE)])
        key = document_of("d").corpus
        first = await catalogue.live(key, after="", limit=2)
        rest = await catalogue.live(key, after=first[-1].id, limit=2)
        assert len(first) == 2
        assert {chunk.text for chunk in first + rest} == {"one", "two", "three"}
        assert [chunk.id for chunk in first + rest] == sorted(chunk.id for chunk in first + rest)
        assert await catalogue.live(key, after=rest[-1].id, limit=2) == []

    async def test_a_swap_waits_for_what_the_new_edition_lacks(self, catalogue: SqlCatalogue) -> None:
        await self.put(catalogue, "d", 1, "one", "two")
        key, other = document_of("d").corpus, model("other")
        run = await catalogue.start_reindex(key, other)
        edition = Edition(corpus=key, model=other)
        assert not await catalogue.swap(run)
        chunks, place = await catalogue.unindexed(edition, after="", limit=1)
        assert await catalogue.backfilled(run, edition, [entry_of(chunks[0], other)]) == []
        assert not await catalogue.swap(run)
        rest, _ = await catalogue.unindexed(edition, after=place, limit=9)
        stranger = entry_of(chunk_of(document_of("gone"), 1, 0, "gone"), other)
        assert await catalogue.backfilled(run, edition, [entry_of(rest[0], other), stranger]) == [stranger.chunk.id]
        assert await catalogue.swap(run)
        corpus = await catalogue.corpus(key)
        assert corpus is not None
        assert (corpus.live, corpus.previous, corpus.building) == (other, ONE, None)

    async def test_a_previous_edition_is_let_go_after_its_time(self, catalogue: SqlCatalogue) -> None:
        await self.put(catalogue, "d", 1, "one")
        key, other = document_of("d").corpus, model("other")
        run = await catalogue.start_reindex(key, other)
        edition = Edition(corpus=key, model=other)
        chunks, _ = await catalogue.unindexed(edition, after="", limit=9)
        await catalogue.backfilled(run, edition, [entry_of(chunk, other) for chunk in chunks])
        await catalogue.swap(run)
        await catalogue.tidy()
        assert await catalogue.retired() == []
        catalogue._kept = timedelta(0)
        await catalogue.tidy()
        (retired,) = await catalogue.retired()
        assert retired.model == ONE
        with pytest.raises(Conflict, match="being dropped"):
            await catalogue.start_reindex(key, ONE)
        await catalogue.dropped(retired)
        assert (await catalogue.start_reindex(key, ONE)).to_version == ONE.version

    async def test_readers_of_one_moment_share_one_read_and_see_what_was_committed_before(
        self, catalogue: SqlCatalogue
    ) -> None:
        await self.put(catalogue, "d", 1, "one")
        key = document_of("d").corpus
        other = CorpusKey(tenant="nobody", corpus="x")
        asked = [catalogue.corpus(key) for _ in range(50)] + [catalogue.corpus(other)]
        *found, nothing = await asyncio.gather(*asked)
        assert nothing is None
        assert {corpus.generation for corpus in found if corpus is not None} == {1}
        given_up = asyncio.create_task(catalogue.corpus(key))
        kept = asyncio.create_task(catalogue.corpus(key))
        await asyncio.sleep(0)
        given_up.cancel()
        corpus = await kept
        assert corpus is not None

    async def test_a_deletion_of_an_unknown_document_is_remembered(self, catalogue: SqlCatalogue) -> None:
        deletion = Deletion(event_id="e", document=document_of("d"), version=3, caused_by="c")
        staged = await catalogue.stage([deletion])
        assert staged.fresh == {"e"}
        await catalogue.publish([Written(change=deletion, entries={})], grace=timedelta(0))
        late = part_of(document_of("d"), 2, ["late"], of=ONE)
        assert (await catalogue.stage([late])).fresh == frozenset()
