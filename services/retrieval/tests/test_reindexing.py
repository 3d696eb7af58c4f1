"""Another model beside the live one, the swap and the way back."""

from __future__ import annotations

import asyncio

import pytest

from anabranch_faults import Conflict, Invalid, Unreachable
from anabranch_retrieval.domain import Question, ReindexState, SearchSettings
from anabranch_retrieval.testing import HashEmbedder, World, document_of, model

ONE, TWO = model("hash-one"), model("hash-two", dimension=32)
DOC = document_of("a")


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
