"""One specification of the index over every adapter; the catalogue on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anabranch_faults import Invalid, Unreachable
from anabranch_retrieval.adapters.analysis import english
from anabranch_retrieval.adapters.stored import pack, unpack
from anabranch_retrieval.application import VectorIndex
from anabranch_retrieval.domain import CorpusKey, DocumentKey, Edition, Entry, Scored, Search
from anabranch_retrieval.testing import MemoryIndex, chunk_of, document_of, entry_of, model, part_of, unit

ONE = model()
TEXTS = [
    "the river Wye floods its banks in spring",
    "bread is baked from flour and water",
    "a telescope gathers light from distant stars",
    "the orchestra tuned before the symphony began",
    "glaciers carve valleys as they move",
    "copper conducts electricity better than iron",
    "bees dance to tell where flowers are",
    "the treaty was signed after a long war",
]


@pytest.fixture(
    params=["memory", "lancedb", pytest.param("weaviate", marks=pytest.mark.connected)],
)
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorIndex]:
    if request.param == "memory":
        yield MemoryIndex()
    elif request.param == "lancedb":
        from anabranch_retrieval.adapters.lance import LanceIndex  # noqa: PLC0415  two seconds

        lance = LanceIndex(tmp_path / "lance", analyse=english())
        await lance.connect()
        yield lance
        await lance.close()
    else:
        from anabranch_retrieval.adapters.weaviate import Address, Timeouts, Weaviate, WeaviateIndex  # noqa: PLC0415

        where = request.getfixturevalue("weaviate")
        unique = request.getfixturevalue("unique")
        weaviate = Weaviate(Address(http=where.http, grpc=where.grpc), Timeouts())
        prefix = "T" + "".join(letter for letter in unique("x") if letter.isalnum())[-20:]
        yield WeaviateIndex(weaviate, analyse=english(), prefix=prefix)
        client = await weaviate.client()
        for name in await client.collections.list_all(simple=True):
            if name.startswith(prefix):
                await client.collections.delete(name)
        await weaviate.close()


def entries_of(document: DocumentKey, texts: list[str], **more: Any) -> list[Entry]:
    return [entry_of(chunk_of(document, 1, number, text, **more), ONE) for number, text in enumerate(texts)]


def ask(text: str, *, alpha: float = 0.5, limit: int = 10, **more: Any) -> Search:
    return Search(text=text, vector=unit(text, ONE), alpha=alpha, limit=limit, **more)


def ids(found: list[Scored]) -> list[str]:
    return [one.chunk_id for one in found]


class TestAnyIndex:
    """What the VectorIndex port promises, over every adapter."""

    EDITION = Edition(corpus=CorpusKey(tenant="acme", corpus="docs"), model=ONE)

    async def filled(self, index: VectorIndex) -> list[Entry]:
        entries = entries_of(document_of("a"), TEXTS)
        await index.open(self.EDITION)
        await index.put(self.EDITION, entries)
        return entries

    async def test_what_was_put_is_found_at_once_by_vector_and_by_keyword(self, index: VectorIndex) -> None:
        entries = await self.filled(index)
        assert await index.missing(self.EDITION, entries) == set()
        for alpha in (0.0, 0.5, 1.0):
            found = await index.search(self.EDITION, ask("telescope distant stars", alpha=alpha))
            assert found[0].chunk_id == entries[2].chunk.id
            assert found[0].score == pytest.approx(1)
            assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)

    async def test_scores_are_a_cosine_and_a_bm25(self, index: VectorIndex) -> None:
        entries = await self.filled(index)
        (best, *_) = await index.search(self.EDITION, ask("copper electricity"))
        assert best.chunk_id == entries[5].chunk.id
        assert best.vector_score == pytest.approx(float(entries[5].vector @ unit("copper electricity", ONE)), abs=1e-3)
        assert best.keyword_score is not None
        assert best.keyword_score > 1

    async def test_what_was_never_put_is_missing(self, index: VectorIndex) -> None:
        entries = await self.filled(index)
        stranger = entries_of(document_of("b"), ["nobody put this here", "nor this"])
        assert await index.missing(self.EDITION, [*entries[:2], *stranger]) == {one.chunk.id for one in stranger}

    async def test_an_edition_never_filled_is_empty_and_all_is_missing(self, index: VectorIndex) -> None:
        other = replace(self.EDITION, corpus=CorpusKey(tenant="acme", corpus="empty"))
        assert await index.search(other, ask("river")) == []
        await index.open(other)
        entries = entries_of(document_of("a"), TEXTS[:2])
        assert await index.search(other, ask("river")) == []
        assert await index.missing(other, entries) == {one.chunk.id for one in entries}
        await index.remove(other, [entries[0].chunk.id])

    async def test_putting_twice_replaces(self, index: VectorIndex) -> None:
        entries = await self.filled(index)
        changed = entry_of(replace(entries[0].chunk, text="volcanoes erupt"), ONE)
        await index.put(self.EDITION, [changed])
        await index.put(self.EDITION, [changed])
        found = await index.search(self.EDITION, ask("volcanoes erupt", limit=100))
        assert found[0].chunk_id == changed.chunk.id
        assert len(found) == len(set(ids(found))) == len(entries)
        assert changed.chunk.id not in ids(await index.search(self.EDITION, ask("Wye", alpha=0.0)))

    async def test_what_was_removed_is_found_by_neither_half(self, index: VectorIndex) -> None:
        entries = await self.filled(index)
        gone = [entries[0].chunk.id, entries[3].chunk.id]
        await index.remove(self.EDITION, gone)
        await index.remove(self.EDITION, gone)
        for alpha in (0.0, 0.5, 1.0):
            found = ids(await index.search(self.EDITION, ask("river Wye orchestra symphony", alpha=alpha, limit=100)))
            assert not set(gone) & set(found)
        assert await index.missing(self.EDITION, entries) == set(gone)

    async def test_labels_filters_and_documents_hold_inside_the_query(self, index: VectorIndex) -> None:
        await index.open(self.EDITION)
        one = entries_of(document_of("one"), ["river one"], acl=("hr", "law"), metadata={"team": "x", "year": "1"})
        two = entries_of(document_of("two'; --"), ["river two"], metadata={"team": "x", "quote": 'it\'s "odd" \n'})
        await index.put(self.EDITION, [*one, *two])
        first, second = one[0].chunk.id, two[0].chunk.id

        async def found(**more: Any) -> set[str]:
            return set(ids(await index.search(self.EDITION, ask("river", **more))))

        assert await found() == {second}
        assert await found(acl=("hr",)) == {first, second}
        assert await found(acl=("HR", "everyone", "*")) == {second}
        assert await found(acl=("law",), filters={"team": "x", "year": "1"}) == {first}
        assert await found(acl=("law",), filters={"team": "y"}) == set()
        assert await found(filters={"quote": 'it\'s "odd" \n'}) == {second}
        assert await found(acl=("law",), document_ids=("one",)) == {first}
        assert await found(document_ids=("one",)) == set()
        assert await found(document_ids=("two'; --", "x")) == {second}

    async def test_inflections_accents_and_case_do_not_matter_to_the_keyword_half(self, index: VectorIndex) -> None:
        if isinstance(index, MemoryIndex):
            pytest.skip("the double analyses no text")
        await self.filled(index)
        more = entries_of(document_of("b"), ["Über naïve Façades in São Paulo", "to be or not to be", "%%% ???"])
        await index.put(self.EDITION, more)
        assert await index.missing(self.EDITION, more) == set()
        for text, best in (("FLOODING RIVERS", 0), ("the glacier's carving", 4), ("uber facade sao", 8)):
            found = await index.search(self.EDITION, ask(text, alpha=0.0))
            assert found[0].chunk_id == [*entries_of(document_of("a"), TEXTS), *more][best].chunk.id

    async def test_editions_and_corpora_are_apart(self, index: VectorIndex) -> None:
        await self.filled(index)
        other_model = replace(ONE, version="other", digest="other")
        for edition in (
            replace(self.EDITION, model=other_model),
            replace(self.EDITION, corpus=CorpusKey(tenant="acme", corpus="docs2")),
            replace(self.EDITION, corpus=CorpusKey(tenant="acme2", corpus="docs")),
        ):
            await index.open(edition)
            assert await index.search(edition, ask("river")) == []

    async def test_no_tenant_ever_sees_what_another_put(self, index: VectorIndex) -> None:
        # Names made to collide when they are joined, cut or folded.
        names = [("a", "b-c"), ("a-b", "c"), ("a.b", "c"), ("a_b", "c"), ("A", "b-c"), ("a" * 64, "b" * 128)]
        names += [("a" * 64, "b" * 127 + "c")]
        rng = random.Random(7)  # noqa: S311  the same choices every time
        owner: dict[str, Edition] = {}
        editions = [Edition(corpus=CorpusKey(tenant=tenant, corpus=corpus), model=ONE) for tenant, corpus in names]
        for edition in editions:
            await index.open(edition)
            texts = rng.sample(TEXTS, 4)
            document = DocumentKey(corpus=edition.corpus, document_id="same")
            entries = entries_of(document, texts)
            owner.update({entry.chunk.id: edition for entry in entries})
            await index.put(edition, entries)
        assert len(owner) == 4 * len(editions)
        for edition in editions:
            for _ in range(4):
                text = " ".join(rng.choice(TEXTS).split()[: rng.randint(1, 6)])
                acl = tuple(rng.sample(["everyone", "*", edition.corpus.tenant], rng.randint(0, 3)))
                found = await index.search(edition, ask(text, alpha=0.3, limit=100, acl=acl))
                assert {owner[one.chunk_id] for one in found} == {edition}

    async def test_a_dropped_edition_is_gone_and_can_be_filled_again(self, index: VectorIndex) -> None:
        entries = await self.filled(index)
        await index.point(self.EDITION)
        await index.drop(self.EDITION)
        await index.drop(self.EDITION)
        assert await index.search(self.EDITION, ask("river")) == []
        await index.open(self.EDITION)
        await index.put(self.EDITION, entries[:1])
        assert await index.missing(self.EDITION, entries) == {one.chunk.id for one in entries[1:]}

    async def test_pointing_may_be_repeated_and_moved(self, index: VectorIndex) -> None:
        await self.filled(index)
        other = replace(self.EDITION, model=replace(ONE, version="other"))
        await index.open(other)
        for edition in (self.EDITION, self.EDITION, other, self.EDITION):
            await index.point(edition)

    async def test_many_writes_and_searches_at_once_lose_nothing(self, index: VectorIndex) -> None:
        await index.open(self.EDITION)
        batches = [entries_of(document_of(f"d{n}"), [f"river number{n} {text}" for text in TEXTS]) for n in range(30)]

        async def write(batch: list[Entry]) -> None:
            await index.put(self.EDITION, batch)
            assert await index.missing(self.EDITION, batch) == set()
            await index.search(self.EDITION, ask("river"))

        await asyncio.gather(*map(write, batches))
        everything = [entry for batch in batches for entry in batch]
        assert await index.missing(self.EDITION, everything) == set()
        found = await index.search(self.EDITION, ask("number17", alpha=0.0, limit=50))
        assert set(ids(found)) == {entry.chunk.id for entry in batches[17]}


@pytest.mark.connected
async def test_a_weaviate_that_is_away_is_unreachable_to_every_call(free_port: Callable[[], int]) -> None:
    from anabranch_retrieval.adapters.weaviate import Address, Timeouts, Weaviate, WeaviateIndex  # noqa: PLC0415

    address = Address(http=f"127.0.0.1:{free_port()}", grpc=f"127.0.0.1:{free_port()}")
    index = WeaviateIndex(Weaviate(address, Timeouts(connect=timedelta(seconds=1))), analyse=english())
    edition, entries = TestAnyIndex.EDITION, entries_of(document_of("a"), TEXTS[:1])
    for call in (
        index.check(),
        index.open(edition),
        index.put(edition, entries),
        index.missing(edition, entries),
        index.search(edition, ask("river")),
        index.remove(edition, ["x"]),
        index.point(edition),
        index.drop(edition),
    ):
        with pytest.raises(Unreachable):
            await call


async def test_lance_finds_what_another_process_wrote(tmp_path: Path) -> None:
    from anabranch_retrieval.adapters.lance import LanceIndex  # noqa: PLC0415  two seconds

    first, second = (LanceIndex(tmp_path / "lance", analyse=english()) for _ in range(2))
    edition = TestAnyIndex.EDITION
    entries = entries_of(document_of("a"), TEXTS)
    await first.connect()
    await second.connect()
    await first.open(edition)
    await second.open(edition)
    await asyncio.gather(first.put(edition, entries[:4]), second.put(edition, entries[4:]))
    for index in (first, second):
        assert await index.missing(edition, entries) == set()
    await first.close()
    await second.close()


def test_a_chunk_comes_back_from_its_bytes_as_it_was() -> None:
    chunk = chunk_of(
        document_of("d"),
        2**63 - 1,
        3,
        "Text. Mehr.",
        sentences=((0, 5), (6, 11)),
        title="T",
        title_path=("a", "b"),
        kind=2,
        page=4,
        line=9,
        source_uri="file:///x",
        metadata={"k": "v"},
        acl=("hr",),
    )
    assert unpack(pack(chunk), chunk.document.corpus) == chunk


def test_the_analyser_folds_stems_and_never_leaves_a_text_without_terms() -> None:
    analyse = english()
    assert analyse("The Rivers were FLOODING") == ["river", "flood"]
    assert analyse("Façade naïve ÉCOLE") == analyse("facade naive ecole")
    assert analyse("to be or not to be") == ["to", "be", "or", "not", "to", "be"]
    assert analyse("!!! ???") == ["!!!", "???"]
    assert analyse("   ") == []
    assert analyse("2,024 x_y NY-67") == ["2", "024", "x_i", "ny", "67"]
    assert max(map(len, analyse("a" * 10_000))) == 64


def test_a_vector_that_is_not_of_norm_one_is_refused() -> None:
    part = part_of(document_of("d"), 1, ["text"], of=ONE)
    for vector in (np.zeros(64, np.float32), np.full(64, np.nan, np.float32), np.ones(3, np.float32)):
        with pytest.raises(Invalid):
            replace(part, entries=(replace(part.entries[0], vector=vector),))
