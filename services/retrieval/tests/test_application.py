"""Indexing, replacing and deleting."""

from __future__ import annotations

from dataclasses import replace

import pytest

from anabranch_faults import Conflict, NotFound, Transient, Unreachable
from anabranch_retrieval.domain import Deletion
from anabranch_retrieval.testing import World, document_of, model, part_of

ONE, TWO = model("hash-one"), model("hash-two", dimension=32)
DOC = document_of("a")


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
