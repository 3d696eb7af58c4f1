"""Candidates in the order of a reranker; rerankers from the store, signed or not at all."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from anabranch_artifacts import ArtifactStore, Signer, make_keys
from anabranch_faults import Invalid, Unreachable
from anabranch_retrieval.adapters.analysis import numbered
from anabranch_retrieval.adapters.rerankers import ArtifactRerankers, load
from anabranch_retrieval.application import Ranking, WarmUp
from anabranch_retrieval.domain import CANDIDATES, FEATURES, Question, Reranker, SearchSettings
from anabranch_retrieval.testing import FeatureReranker, World, document_of
from anabranch_retrieval.testing.models import put, write_linear, write_trees

DOC = document_of("a")


def question(text: str = "river", **more: object) -> Question:
    flags = {name: more.pop(name) for name in ("with_features", "with_sentences") if name in more}
    values: dict[str, object] = {"top_k": 5, "keep_duplicates": True, **more}
    return Question(corpus=DOC.corpus, text=text, settings=SearchSettings(**values), **flags)  # type: ignore[arg-type]


async def fill(world: World, count: int) -> None:
    await world.put_all({f"d{n}": "river " + " ".join(f"w{n}x{k}" for k in range(n + 1)) for n in range(count)})


async def test_a_reranker_orders_the_best_fifty_and_leaves_the_rest_behind_them(world: World) -> None:
    await fill(world, 70)
    plain = await world.retrieve(question(top_k=100))
    world.rerankers.held["rr-long"] = FeatureReranker(version="rr-long", feature="length")
    answer = await world.retrieve(question(top_k=100, reranker_version="rr-long"))
    before = [passage.hit.chunk.id for passage in plain.passages]
    after = [passage.hit.chunk.id for passage in answer.passages]
    assert answer.reranker_version == "rr-long"
    assert set(after[:CANDIDATES]) == set(before[:CANDIDATES])
    assert after[CANDIDATES:] == before[CANDIDATES:]
    lengths = [len(passage.hit.chunk.text.split()) for passage in answer.passages[:CANDIDATES]]
    assert lengths == sorted(lengths, reverse=True)
    assert all(passage.rerank_score is not None for passage in answer.passages[:CANDIDATES])
    assert all(passage.rerank_score is None for passage in answer.passages[CANDIDATES:])
    assert answer.rerank_seconds > 0
    few = await world.retrieve(question(top_k=3, reranker_version="rr-long"))
    assert [passage.hit.chunk.id for passage in few.passages] == after[:3]


async def test_features_come_with_the_order_of_the_search_and_do_not_depend_on_how_many_are_returned(
    world: World,
) -> None:
    await fill(world, 60)
    plain = await world.retrieve(question(top_k=5))
    few = await world.retrieve(question(top_k=5, with_features=True))
    many = await world.retrieve(question(top_k=50, with_features=True))
    assert [one.hit.chunk.id for one in few.passages] == [one.hit.chunk.id for one in plain.passages]
    assert [one.features for one in few.passages] == [one.features for one in many.passages[:5]]
    assert all(len(one.features) == len(FEATURES) for one in many.passages)
    assert all(one.features == () for one in plain.passages)
    rank = FEATURES.index("reciprocal_rank")
    assert [one.features[rank] for one in few.passages] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    assert few.reranker_version == ""


async def test_after_a_start_the_terms_of_passages_are_made_before_they_are_searched_for(world: World) -> None:
    await fill(world, 45)
    asked: list[str] = []

    def terms(text: str) -> list[int]:
        asked.append(text)
        return count(text)

    count = numbered()
    world.retrieve.ranking.terms = terms
    plain = await world.retrieve(question("w7x3 river", top_k=45, with_features=True))
    assert len(asked) == 1 + 45
    world.retrieve.ranking = Ranking(terms=terms, rerankers=world.rerankers)
    await WarmUp(catalogue=world.catalogue, ranking=world.retrieve.ranking, pause=timedelta(0)).run()
    asked.clear()
    warm = await world.retrieve(question("w7x3 river", top_k=45, with_features=True))
    assert asked == ["w7x3 river"]
    assert warm.passages == plain.passages


async def test_of_near_duplicates_the_one_the_reranker_puts_first_stays(world: World) -> None:
    text = "The river Wye rises on the slopes of Plynlimon and flows south to the Severn near Chepstow"
    await world.put_all({"a": text, "b": text + " town", "c": "another river altogether is the Dee"})
    world.rerankers.held["rr-long"] = FeatureReranker(version="rr-long", feature="length")
    answer = await world.retrieve(question("river Wye", keep_duplicates=False, reranker_version="rr-long"))
    assert [passage.hit.chunk.document.document_id for passage in answer.passages] == ["b", "c"]


async def test_without_its_reranker_a_search_keeps_its_order_and_says_so(world: World) -> None:
    await fill(world, 10)
    plain = await world.retrieve(question())
    answer = await world.retrieve(question(reranker_version="rr-none"))
    assert answer.reranker_version == ""
    assert answer.passages == plain.passages


async def test_scores_that_are_no_numbers_order_nothing(world: World) -> None:
    await fill(world, 10)
    world.rerankers.held["rr-nan"] = FeatureReranker(version="rr-nan", feature="length", factor=float("nan"))
    answer = await world.retrieve(question(reranker_version="rr-nan"))
    assert answer.reranker_version == ""
    assert [one.hit for one in answer.passages] == [one.hit for one in (await world.retrieve(question())).passages]


async def test_sentences_are_left_out_where_nobody_wants_them(world: World) -> None:
    await fill(world, 3)
    assert all(one.sentences for one in (await world.retrieve(question())).passages)
    assert not any(one.sentences for one in (await world.retrieve(question(with_sentences=False))).passages)


async def test_replaced_chunks_are_no_candidates(world: World) -> None:
    await world.put(DOC, 1, *(f"river bend {number}" for number in range(200)))
    await world.put(DOC, 2, "river mouth")
    await world.put(document_of("b"), 1, "river source")
    world.rerankers.held["rr"] = FeatureReranker(version="rr", feature="length")
    answer = await world.retrieve(question("river bend", reranker_version="rr", with_features=True))
    assert len(answer.passages) == 2
    assert answer.reranker_version == "rr"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder / "private.pem", folder / "public.pem")
    return folder / "private.pem", folder / "public.pem"


def test_a_linear_reranker_maps_features_by_name(tmp_path: Path) -> None:
    some = ("length", "dense")
    model = load("rr-1", write_linear(tmp_path / "m", {"length": 2.0, "dense": 3.0}, features=some))
    rows = np.zeros((2, len(FEATURES)), dtype=np.float32)
    rows[0, FEATURES.index("length")] = 1
    rows[1, FEATURES.index("dense")] = 1
    assert model.score(rows).tolist() == [2, 3]


def test_standardised_features_are_clipped_where_the_model_says_so(tmp_path: Path) -> None:
    folder = write_linear(tmp_path / "m", {})
    count = len(FEATURES)
    tensors = {"mean": np.ones(count), "scale": np.full(count, 2.0), "weights": np.ones(count), "bias": np.array([7.0])}
    save_file(tensors | {"clip": np.array([3.0])}, folder / "model.safetensors")
    rows = np.ones((1, count), dtype=np.float32)
    rows[0, 0] = 1_000
    assert load("rr-1", folder).score(rows).tolist() == [10.0]


def _described(folder: Path, **more: Any) -> Path:
    file = folder / "reranker.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **more}))
    return folder


def test_a_model_may_move_the_first_candidates_only(tmp_path: Path) -> None:
    model = load("rr-1", _described(write_linear(tmp_path / "m", {"dense": 1.0}), depth=3))
    rows = np.zeros((50, len(FEATURES)), dtype=np.float32)
    rows[:, FEATURES.index("reciprocal_rank")] = 1 / np.arange(1, 51)
    rows[:, FEATURES.index("dense")] = np.linspace(0, 1, 50)
    assert np.argsort(-model.score(rows), kind="stable").tolist() == [2, 1, 0, *range(3, 50)]
    assert model.version == "rr-1"
    assert np.isfinite(model.score(np.zeros((2, len(FEATURES)), dtype=np.float32))).all()


@pytest.mark.parametrize("depth", [-1, "ten", 2.5, None])
def test_a_depth_that_is_no_number_of_candidates_is_refused(tmp_path: Path, depth: Any) -> None:
    with pytest.raises(Invalid) as refused:
        load("rr-1", _described(write_linear(tmp_path / "m", {}), depth=depth))
    assert refused.value.reason == "UNSUITABLE"


def test_a_model_of_trees_goes_by_what_it_learned(tmp_path: Path) -> None:
    model = load("rr-1", write_trees(tmp_path / "m", "overlap"))
    rows = np.full((3, len(FEATURES)), 0.5, dtype=np.float32)
    rows[:, FEATURES.index("overlap")] = (0.1, 0.9, 0.5)
    assert np.argsort(-model.score(rows)).tolist() == [1, 2, 0]


def break_json(folder: Path) -> None:
    (folder / "reranker.json").write_text("{")


def no_description(folder: Path) -> None:
    (folder / "reranker.json").unlink()


def other_feature_set(folder: Path) -> None:
    write_linear(folder, {}, feature_set="rf-2")


def unknown_feature(folder: Path) -> None:
    write_linear(folder, {}, features=("dense", "shoe_size"))


def twice(folder: Path) -> None:
    write_linear(folder, {}, features=("dense", "dense"))


def wrong_shape(folder: Path) -> None:
    save_file({name: np.ones(3) for name in ("mean", "scale", "weights", "bias")}, folder / "model.safetensors")


def no_scale(folder: Path) -> None:
    count = len(FEATURES)
    tensors = {"mean": np.ones(count), "scale": np.zeros(count), "weights": np.ones(count), "bias": np.ones(1)}
    save_file(tensors, folder / "model.safetensors")


def no_tensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"cos\nsystem\n")


def no_trees(folder: Path) -> None:
    (folder / "reranker.json").write_text((folder / "reranker.json").read_text().replace("safetensors", "lightgbm"))
    (folder / "model.txt").write_text("not a tree")


@pytest.mark.parametrize(
    "spoil",
    [
        break_json,
        no_description,
        other_feature_set,
        unknown_feature,
        twice,
        wrong_shape,
        no_scale,
        no_tensors,
        no_trees,
    ],
)
def test_a_model_that_cannot_be_applied_is_refused_as_unsuitable(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    folder = write_linear(tmp_path / "m", {})
    spoil(folder)
    with pytest.raises(Invalid) as caught:
        load("rr-1", folder)
    assert caught.value.reason == "UNSUITABLE"


class Shelf:
    """ArtifactRerankers over a load that tests steer."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.rerankers = ArtifactRerankers(
            self.load, patience=timedelta(seconds=5), again_after=timedelta(milliseconds=80)
        )

    def load(self, version: str) -> Reranker:
        self.asked.append(version)
        assert self.gate.wait(10)
        if self.fault is not None:
            raise self.fault
        return FeatureReranker(version=version, feature="length")


@pytest.fixture
async def shelf() -> AsyncIterator[Shelf]:
    made = Shelf()
    yield made
    made.gate.set()
    await made.rerankers.close()


async def test_many_who_ask_wait_for_one_load(shelf: Shelf) -> None:
    found = await asyncio.gather(*(shelf.rerankers.get("rr-1") for _ in range(20)))
    assert {one.version for one in found if one is not None} == {"rr-1"}
    assert None not in found
    assert shelf.asked == ["rr-1"]


async def test_what_routing_names_is_loaded_before_it_is_asked_for(shelf: Shelf) -> None:
    await shelf.rerankers.route("acme/docs", ["rr-1", "rr-2"])
    assert shelf.asked == ["rr-1", "rr-2"]
    await shelf.rerankers.get("rr-1")
    await shelf.rerankers.route("acme/docs", ["rr-1", "rr-2"])
    assert len(shelf.asked) == 2


async def test_a_failure_is_remembered_for_a_while_and_then_tried_again(shelf: Shelf, poll_until: Callable) -> None:  # type: ignore[type-arg]  # a fixture
    shelf.fault = Unreachable("the store is away")
    for _ in range(10):
        assert await shelf.rerankers.get("rr-1") is None
    assert len(shelf.asked) == 1
    shelf.fault = None

    async def back() -> bool:
        return await shelf.rerankers.get("rr-1") is not None

    await poll_until(back)
    assert len(shelf.asked) == 2


async def test_a_routed_reranker_that_failed_holds_up_no_query_while_it_is_tried_again(
    shelf: Shelf,
    poll_until: Callable,  # type: ignore[type-arg]  # a fixture
) -> None:
    shelf.fault = Unreachable("the store is away")
    await shelf.rerankers.route("*", ["rr-1"])
    shelf.gate.clear()
    shelf.fault = None

    async def tried() -> bool:
        assert await asyncio.wait_for(shelf.rerankers.get("rr-1"), 1) is None
        return len(shelf.asked) == 2

    await poll_until(tried)
    shelf.gate.set()

    async def back() -> bool:
        return await shelf.rerankers.get("rr-1") is not None

    await poll_until(back)


async def test_a_load_that_takes_too_long_is_not_waited_for(shelf: Shelf) -> None:
    shelf.rerankers._patience = 0.05
    shelf.gate.clear()
    assert await shelf.rerankers.get("rr-1") is None


async def test_few_are_kept_that_routing_does_not_name_and_all_that_it_does(shelf: Shelf) -> None:
    await shelf.rerankers.route("a", ["rr-first"])
    for number in range(40):
        assert await shelf.rerankers.get(f"rr-{number}") is not None
    before = len(shelf.asked)
    await shelf.rerankers.get("rr-first")
    await shelf.rerankers.get("rr-39")
    assert len(shelf.asked) == before
    await shelf.rerankers.get("rr-0")
    assert len(shelf.asked) == before + 1


@pytest.mark.parametrize("kind", ["unsigned", "other key", "tampered", "no public key"])
async def test_only_what_was_signed_with_the_key_is_loaded(tmp_path: Path, keys: tuple[Path, Path], kind: str) -> None:
    root, folder = str(tmp_path / "store"), write_linear(tmp_path / "m", {"dense": 1.0})
    make_keys(tmp_path / "other.pem", tmp_path / "other.pub")
    signers = {"unsigned": None, "other key": Signer(tmp_path / "other.pem")}
    version = put(root, folder, signers.get(kind, Signer(keys[0])))
    if kind == "tampered":
        write_linear(tmp_path / "store" / version, {"dense": -1.0})
    store = ArtifactStore(root, public_key=None if kind == "no public key" else keys[1])
    rerankers = ArtifactRerankers(lambda name: load(name, store.fetch(name, into=tmp_path / "into").folder))
    assert await rerankers.get(version) is None
    await rerankers.close()


async def test_a_name_that_is_none_is_refused_without_touching_a_path(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    store = ArtifactStore(str(tmp_path / "store"), public_key=keys[1])
    rerankers = ArtifactRerankers(lambda name: load(name, store.fetch(name, into=tmp_path / "into").folder))
    for name in ("../../etc", "latest", "rr-", "x" * 10_000):
        assert await rerankers.get(name) is None
    await rerankers.close()
    assert not (tmp_path / "into").exists()
