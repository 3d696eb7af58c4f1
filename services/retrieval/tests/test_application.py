"""Use cases on a real SQLite catalogue, with an index and an embedder in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text as sql

from anabranch.retrieval.v1.events_pb2 import DocumentIndexed
from anabranch_faults import Conflict, Invalid, NotFound, Transient, Unreachable
from anabranch_retrieval.adapters.announcements import encoded
from anabranch_retrieval.adapters.catalogue import MIGRATIONS, SCHEMA, SqlCatalogue
from anabranch_retrieval.application import (
    CheckModels,
    IndexDocuments,
    Readiness,
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
    ReindexState,
    SearchSettings,
)
from anabranch_retrieval.testing import HashEmbedder, MemoryIndex, document_of, model, part_of
from anabranch_store import Database

ONE, TWO = model("hash-one"), model("hash-two", dimension=32)
DOC = document_of("a")


@dataclass
class World:
    """A service's inside, without its ways in."""

    database: Database
    catalogue: SqlCatalogue
    index: MemoryIndex
    embedder: HashEmbedder

    def __post_init__(self) -> None:
        index, catalogue, embedder = self.index, self.catalogue, self.embedder
        self.indexing = IndexDocuments(
            index=index, catalogue=catalogue, embedder=embedder, grace=timedelta(0), patience=(timedelta(0),)
        )
        self.retrieve = Retrieve(index=index, catalogue=catalogue, embedder=embedder)
        self.remover = RemovalWorker(index=index, catalogue=catalogue)
        self.reindexer = ReindexWorker(
            index=index, catalogue=catalogue, embedder=embedder, pause=timedelta(milliseconds=10)
        )
        self.reindexing = Reindexing(index=index, catalogue=catalogue, embedder=embedder, worker=self.reindexer)

    async def put(self, document: DocumentKey, version: int, *texts: str, **more: object) -> Change:
        change = part_of(document, version, texts, of=ONE, **more)  # type: ignore[arg-type]
        assert await self.indexing([change]) == {}
        return change

    async def put_all(self, texts: dict[str, str]) -> None:
        changes = [part_of(document_of(name), 1, [text], of=ONE) for name, text in texts.items()]
        assert await self.indexing(changes) == {}

    async def delete(self, document: DocumentKey, version: int) -> None:
        deletion = Deletion(event_id=f"delete-{version}", document=document, version=version, caused_by="c")
        assert await self.indexing([deletion]) == {}

    async def ask(self, text: str, *, corpus: CorpusKey = DOC.corpus, top_k: int = 10, **more: object) -> list[str]:
        settings = SearchSettings(top_k=top_k, keep_duplicates=True)
        answer = await self.retrieve(Question(corpus=corpus, text=text, settings=settings, **more))  # type: ignore[arg-type]
        return [passage.hit.chunk.text for passage in answer.passages]

    async def generation(self, corpus: CorpusKey = DOC.corpus) -> int:
        found = await self.catalogue.corpus(corpus)
        return found.generation if found is not None else -1

    async def announced(self) -> list[tuple[str, bool]]:
        async with self.database.reading() as tx:
            rows = (await tx.execute(sql("SELECT value FROM outbox ORDER BY id"))).scalars()
            events = [DocumentIndexed.FromString(row) for row in rows]
        return [(f"{event.document.document_id}@{event.document.version}", event.deleted) for event in events]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = Database(f"sqlite:///{tmp_path / 'r.db'}", schema=SCHEMA, migrations=MIGRATIONS)
    await database.migrate()
    catalogue = SqlCatalogue(database, encoded, retired_grace=timedelta(0))
    yield World(database, catalogue, MemoryIndex(), HashEmbedder([ONE, TWO], aliases={"two": "hash-two"}))
    await catalogue.close()
    await database.close()


async def test_a_document_is_announced_once_it_is_found(world: World) -> None:
    await world.put(DOC, 1, "the river floods in spring")
    assert await world.ask("river") == ["the river floods in spring"]
    assert await world.announced() == [("a@1", False)]
    assert await world.generation() == 1


async def test_a_document_that_is_not_found_yet_is_tried_again_and_not_announced(world: World) -> None:
    change = part_of(DOC, 1, ["the river floods"], of=ONE)
    world.index.hidden.add(change.entries[0].chunk.id)
    faults = await world.indexing([change])
    assert isinstance(faults[change.event_id], Transient)
    assert "not found" in str(faults[change.event_id])
    assert await world.announced() == []
    assert await world.ask("river") == []
    world.index.hidden.clear()
    assert await world.indexing([change]) == {}
    assert await world.announced() == [("a@1", False)]


async def test_a_redelivery_changes_nothing(world: World) -> None:
    change = await world.put(DOC, 1, "the river floods")
    puts = world.index.puts
    assert await world.indexing([change, change]) == {}
    assert await world.generation() == 1
    assert world.index.puts == puts
    assert len(await world.announced()) == 1


async def test_an_older_version_arriving_late_is_ignored(world: World) -> None:
    await world.put(DOC, 2, "new words")
    await world.put(DOC, 1, "old words")
    assert await world.ask("words") == ["new words"]
    assert await world.generation() == 1


async def test_a_new_version_replaces_all_of_the_old_and_its_chunks_leave_the_index(world: World) -> None:
    await world.put(DOC, 1, "old river one", "old river two", "old river three")
    await world.put(DOC, 2, "new river")
    assert await world.ask("river") == ["new river"]
    await world.remover.once()
    (held,) = world.index.editions.values()
    assert [entry.chunk.text for entry in held.values()] == ["new river"]
    corpus = await world.catalogue.corpus(DOC.corpus)
    assert corpus is not None
    assert (corpus.document_count, corpus.chunk_count, corpus.generation) == (1, 1, 2)


async def test_a_version_in_parts_shows_only_when_all_are_in_whatever_their_order(world: World) -> None:
    await world.put(DOC, 1, "old river")
    second = part_of(DOC, 2, ["river mouth"], of=ONE, part=1, parts=2, first=1)
    first = part_of(DOC, 2, ["river source"], of=ONE, part=0, parts=2)
    assert await world.indexing([second]) == {}
    assert await world.ask("river") == ["old river"]
    assert await world.indexing([first]) == {}
    assert sorted(await world.ask("river")) == ["river mouth", "river source"]
    assert await world.announced() == [("a@1", False), ("a@2", False)]


async def test_the_same_part_twice_does_not_complete_a_version(world: World) -> None:
    for event_id in ("e1", "e2"):
        part = part_of(DOC, 1, ["river source"], of=ONE, part=0, parts=2, event_id=event_id)
        assert await world.indexing([part]) == {}
    assert await world.ask("river") == []


async def test_parts_left_behind_by_a_newer_version_leave_the_index(world: World) -> None:
    lonely = part_of(DOC, 1, ["river source"], of=ONE, part=0, parts=2)
    assert await world.indexing([lonely]) == {}
    await world.put(DOC, 2, "new river")
    await world.remover.once()
    (held,) = world.index.editions.values()
    assert [entry.chunk.text for entry in held.values()] == ["new river"]


async def test_a_delete_hides_the_document_at_once_and_is_announced_when_its_chunks_are_gone(world: World) -> None:
    await world.put(DOC, 1, "the river floods")
    await world.delete(DOC, 2)
    assert await world.ask("river") == []
    assert await world.generation() == 2
    assert await world.announced() == [("a@1", False)]
    await world.remover.once()
    assert list(world.index.editions.values()) == [{}]
    assert await world.announced() == [("a@1", False), ("a@2", True)]
    await world.put(DOC, 1, "late words")
    assert await world.ask("late words river") == []


async def test_a_deleted_document_can_come_back(world: World) -> None:
    await world.put(DOC, 1, "the river floods")
    await world.delete(DOC, 2)
    await world.put(DOC, 3, "the river is back")
    await world.remover.once()
    assert await world.ask("river") == ["the river is back"]
    corpus = await world.catalogue.corpus(DOC.corpus)
    assert corpus is not None
    assert (corpus.document_count, corpus.generation) == (1, 3)


async def test_deleting_an_unknown_document_makes_no_corpus_but_is_announced_and_remembered(world: World) -> None:
    await world.delete(DOC, 5)
    await world.remover.once()
    assert await world.announced() == [("a@5", True)]
    assert await world.catalogue.corpora("acme") == []
    with pytest.raises(NotFound):
        await world.ask("river")
    await world.put(DOC, 4, "too old")
    with pytest.raises(NotFound):
        await world.ask("river")


async def test_several_versions_and_documents_in_one_batch_take_effect_in_order(world: World) -> None:
    other = document_of("b")
    changes = [
        part_of(DOC, 1, ["river one"], of=ONE),
        part_of(other, 1, ["river other"], of=ONE),
        part_of(DOC, 2, ["river two"], of=ONE),
        Deletion(event_id="d", document=other, version=2, caused_by="c"),
    ]
    assert await world.indexing(changes) == {}
    assert await world.ask("river") == ["river two"]
    assert await world.generation() == 4
    await world.remover.once()
    assert sorted(await world.announced()) == [("a@1", False), ("a@2", False), ("b@1", False), ("b@2", True)]


async def test_an_outage_of_the_index_or_the_embedder_is_passed_up_and_nothing_is_lost(world: World) -> None:
    change = part_of(DOC, 1, ["the river floods"], of=ONE)
    world.index.down = True
    with pytest.raises(Unreachable):
        await world.indexing([change])
    world.index.down = False
    assert await world.indexing([change]) == {}
    world.embedder.down = True
    with pytest.raises(Unreachable):
        await world.ask("river")
    world.embedder.down = False
    assert await world.ask("river") == ["the river floods"]


async def test_vectors_of_another_make_of_the_same_version_are_refused_in_a_sentence(world: World) -> None:
    await world.put(DOC, 1, "the river floods")
    other = replace(part_of(document_of("b"), 1, ["more"], of=ONE), model=replace(ONE, digest="another"))
    faults = await world.indexing([other])
    assert isinstance(faults[other.event_id], Conflict)
    assert "cannot be compared" in str(faults[other.event_id])


async def test_a_query_is_refused_when_the_embedder_no_longer_has_the_model_of_the_index(world: World) -> None:
    await world.put(DOC, 1, "the river floods")
    await world.ask("river")
    world.embedder.served = [TWO]
    with pytest.raises(Conflict, match="does not serve"):
        await world.ask("river")
    with pytest.raises(Conflict, match="acme/docs with hash-one"):
        await CheckModels(catalogue=world.catalogue, embedder=world.embedder)()


async def test_the_service_ends_at_its_start_when_models_do_not_fit_unless_told_otherwise(world: World) -> None:
    await world.put(DOC, 1, "the river floods")
    world.embedder.served = [TWO]
    models = CheckModels(catalogue=world.catalogue, embedder=world.embedder)
    with pytest.raises(Conflict):
        await asyncio.wait_for(Readiness(index=world.index, models=models, strict=True).watch(), 5)
    lenient = Readiness(index=world.index, models=models, strict=False)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(lenient.watch(), 0.1)
    assert lenient.problem is None


async def test_vectors_of_another_served_version_are_made_anew_for_the_index(world: World) -> None:
    await world.put(DOC, 1, "the river floods")
    assert await world.indexing([part_of(document_of("b"), 1, ["the river ebbs"], of=TWO)]) == {}
    assert sorted(await world.ask("river")) == ["the river ebbs", "the river floods"]
    assert world.embedder.chunks_embedded == 1


async def test_labels_filters_and_documents_narrow_what_is_found(world: World) -> None:
    await world.put(document_of("open"), 1, "river for all")
    await world.put(document_of("hr"), 1, "river for hr", acl=("hr",), metadata={"team": "hr"})
    await world.put(document_of("both"), 1, "river for both", acl=("hr", "law"), metadata={"team": "law"})
    assert await world.ask("river") == ["river for all"]
    assert sorted(await world.ask("river", acl=("hr",))) == ["river for all", "river for both", "river for hr"]
    assert sorted(await world.ask("river", acl=("law", "x"))) == ["river for all", "river for both"]
    assert await world.ask("river", acl=("hr",), filters={"team": "law"}) == ["river for both"]
    assert await world.ask("river", acl=("hr",), filters={"team": "law", "x": "y"}) == []
    assert await world.ask("river", document_ids=("open", "hr")) == ["river for all"]


async def test_near_duplicates_are_collapsed_unless_they_are_asked_for(world: World) -> None:
    text = "The river Wye rises on the slopes of Plynlimon and flows south to the Severn near Chepstow"
    for name, words in (("a", text), ("b", text + "."), ("c", "another river altogether is the Dee")):
        await world.put(document_of(name), 1, words)
    question = Question(corpus=DOC.corpus, text="river Wye", settings=SearchSettings(top_k=5))
    answer = await world.retrieve(question)
    assert len(answer.passages) == 2
    assert len(await world.ask("river Wye")) == 3


async def test_passages_carry_sentence_similarities_and_scores(world: World) -> None:
    text = "rivers flow. bread is baked."
    await world.put(DOC, 1, text, sentences=((0, 12), (13, 28)), title="Water", page=3)
    question = Question(corpus=DOC.corpus, text="bread is baked.", settings=SearchSettings())
    (passage,) = (await world.retrieve(question)).passages
    first, second = passage.sentences
    assert first.similarity is not None
    assert second.similarity is not None
    assert second.similarity > 0.95 > first.similarity
    assert passage.hit.found.score == 1
    assert passage.hit.chunk.page == 3


async def test_hits_of_replaced_versions_do_not_crowd_out_live_ones(world: World) -> None:
    await world.put(DOC, 1, *(f"river bend {number}" for number in range(200)))
    await world.put(DOC, 2, "river mouth")
    await world.put(document_of("b"), 1, "river source")
    assert len(await world.ask("river bend", top_k=2)) == 2


async def test_a_reindex_moves_the_corpus_to_another_model_and_back(world: World) -> None:
    for number in range(5):
        await world.put(document_of(f"d{number}"), 1, f"river {number}")
    run = await world.reindexing.start(DOC.corpus, "two")
    assert (run.state, run.from_version, run.to_version) == (ReindexState.BACKFILLING, "hash-one", "hash-two")
    with pytest.raises(Conflict, match="under way"):
        await world.reindexing.start(DOC.corpus, "two")
    await world.put(document_of("during"), 1, "river during")
    await world.reindexer.once()
    run = await world.reindexing.last(DOC.corpus)
    assert (run.state, run.chunks_done) == (ReindexState.SWAPPED, 6)
    assert await world.generation() == 7
    answer = await world.retrieve(Question(corpus=DOC.corpus, text="river", settings=SearchSettings(top_k=20)))
    assert answer.embedding_version == "hash-two"
    assert len(answer.passages) == 6
    assert all(sentence.similarity is not None for passage in answer.passages for sentence in passage.sentences)
    await world.put(document_of("after"), 1, "river after")
    run = await world.reindexing.roll_back(DOC.corpus)
    assert run.state is ReindexState.ROLLED_BACK
    answer = await world.retrieve(Question(corpus=DOC.corpus, text="river", settings=SearchSettings(top_k=20)))
    assert answer.embedding_version == "hash-one"
    assert len(answer.passages) == 7
    with pytest.raises(Conflict, match="nothing to go back"):
        await world.reindexing.roll_back(DOC.corpus)


async def test_queries_go_on_and_never_fail_during_a_reindex_with_live_changes(world: World) -> None:
    await world.put_all({f"d{number}": f"river number {number}" for number in range(100)})
    done = asyncio.Event()
    asked = 0

    async def query() -> None:
        nonlocal asked
        while not done.is_set():
            found = await world.ask("river number 7", top_k=100)
            assert len(found) == 100
            asked += 1
            await asyncio.sleep(0)

    async def change() -> None:
        version = 1
        while not done.is_set():
            version += 1
            await world.put(document_of("d7"), version, f"river number 7 version {version}")
            await world.remover.once()

    working = [asyncio.create_task(query()), asyncio.create_task(change())]
    await world.reindexing.start(DOC.corpus, "hash-two")
    await world.reindexer.once()
    await world.reindexing.roll_back(DOC.corpus)
    await world.reindexing.start(DOC.corpus, "hash-two")
    await world.reindexer.once()
    done.set()
    await asyncio.gather(*working)
    assert asked > 3
    assert (await world.reindexing.last(DOC.corpus)).state is ReindexState.SWAPPED
    # What is left of old versions goes from every edition; nothing else does.
    await world.remover.once()
    assert [len(held) for held in world.index.editions.values()] == [100, 100]


async def test_a_reindex_cut_off_in_the_middle_goes_on_after_a_restart(world: World) -> None:
    await world.put_all({f"d{number}": f"river {number}" for number in range(150)})
    await world.reindexing.start(DOC.corpus, "hash-two")
    world.embedder.room = 64
    with pytest.raises(Unreachable):
        await world.reindexer.once()
    assert (await world.reindexing.last(DOC.corpus)).problem == "cut off"
    assert (await world.reindexing.last(DOC.corpus)).chunks_done == 64
    again = World(world.database, world.catalogue, world.index, HashEmbedder([ONE, TWO]))
    await again.reindexer.once()
    assert again.embedder.chunks_embedded == 150 - 64
    assert (await again.reindexing.last(DOC.corpus)).state is ReindexState.SWAPPED


async def test_rolling_back_a_run_under_way_gives_the_new_edition_up(world: World) -> None:
    await world.put(DOC, 1, "river")
    await world.reindexing.start(DOC.corpus, "hash-two")
    await world.reindexing.roll_back(DOC.corpus)
    await world.reindexer.once()
    await world.remover.once()
    assert [edition.model.version for edition in world.index.editions] == ["hash-one"]
    assert (await world.reindexing.last(DOC.corpus)).state is ReindexState.ROLLED_BACK


async def test_a_reindex_to_an_unknown_model_is_refused_and_one_that_vanishes_fails_with_its_reason(
    world: World,
) -> None:
    await world.put(DOC, 1, "river")
    with pytest.raises(Invalid):
        await world.reindexing.start(DOC.corpus, "hash-nine")
    with pytest.raises(Conflict, match="already"):
        await world.reindexing.start(DOC.corpus, "hash-one")
    await world.reindexing.start(DOC.corpus, "hash-two")
    world.embedder.served = [ONE]
    await world.reindexer.once()
    run = await world.reindexing.last(DOC.corpus)
    assert run.state is ReindexState.FAILED
    assert "hash-two" in run.problem
    assert await world.ask("river") == ["river"]


async def test_a_version_asked_for_by_name_or_alias_is_served_while_it_is_kept(world: World) -> None:
    await world.put(DOC, 1, "river")
    await world.reindexing.start(DOC.corpus, "two")
    await world.reindexer.once()
    for name, version in (("hash-one", "hash-one"), ("two", "hash-two"), ("", "hash-two")):
        settings = SearchSettings(embedding_version=name)
        answer = await world.retrieve(Question(corpus=DOC.corpus, text="river", settings=settings))
        assert answer.embedding_version == version
    world.embedder.served.append(model("hash-three"))
    settings = SearchSettings(embedding_version="hash-three")
    with pytest.raises(Conflict, match="is indexed under"):
        await world.retrieve(Question(corpus=DOC.corpus, text="river", settings=settings))


async def test_the_public_name_follows_swap_and_rollback(world: World) -> None:
    await world.put(DOC, 1, "river")
    await world.reindexer.once()
    assert world.index.aliases[DOC.corpus].model == ONE
    await world.reindexing.start(DOC.corpus, "two")
    await world.reindexer.once()
    assert world.index.aliases[DOC.corpus].model == TWO
    await world.reindexing.roll_back(DOC.corpus)
    await world.reindexer.once()
    assert world.index.aliases[DOC.corpus].model == ONE


async def test_a_reader_sees_the_old_version_or_the_new_one_and_never_both_or_a_part(world: World) -> None:
    await world.put(DOC, 1, *(f"river 1 {number}" for number in range(8)))
    done = asyncio.Event()
    seen: set[str] = set()

    async def read() -> None:
        while not done.is_set():
            found = await world.ask("river", top_k=100)
            assert len(found) == 8
            versions = {text.split()[1] for text in found}
            assert len(versions) == 1
            seen.update(versions)
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read()) for _ in range(3)]
    for version in range(2, 12):
        await world.put(DOC, version, *(f"river {version} {number}" for number in range(8)))
        await asyncio.sleep(0.005)
    done.set()
    await asyncio.gather(*readers)
    assert len(seen) > 1
