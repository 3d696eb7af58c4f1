"""What a search finds, and for whom."""

from __future__ import annotations

import asyncio

import pytest

from anabranch_faults import Conflict
from anabranch_retrieval.application import CheckModels, Readiness
from anabranch_retrieval.domain import Question, SearchSettings
from anabranch_retrieval.testing import World, document_of, model, part_of

ONE, TWO = model("hash-one"), model("hash-two", dimension=32)
DOC = document_of("a")


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
