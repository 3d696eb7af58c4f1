"""The features rf-1: what each column says, and that one candidate's row is the same however often it is asked for."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch_retrieval.adapters.analysis import numbered
from anabranch_retrieval.adapters.stored import pack, unpack
from anabranch_retrieval.domain import FEATURES, Hit, Scored, features_of, order, words_of
from anabranch_retrieval.testing import chunk_of, document_of, entry_of, model, unit

ONE = model()
NOW = datetime(2026, 1, 11, tzinfo=UTC)
TERMS = numbered()
DOC = document_of("a")


def hit(text: str, *, dense: float | None = None, bm25: float | None = None, score: float = 0.5, **more: object) -> Hit:
    chunk = chunk_of(DOC, 1, hash(text) % 10_000, text, **more)
    found = Scored(chunk_id=chunk.id, score=score, vector_score=dense, keyword_score=bm25)
    return Hit(found=found, chunk=chunk, sentence_vectors=entry_of(chunk, ONE).sentence_vectors)


def columns(hits: list[Hit], query: str) -> dict[str, list[float]]:
    words = [words_of(one.chunk, TERMS) for one in hits]
    rows = features_of(hits, words, query=TERMS(query), vector=unit(query, ONE), now=NOW)
    assert rows.dtype == np.float32
    assert rows.shape == (len(hits), len(FEATURES))
    return {name: rows[:, number].tolist() for number, name in enumerate(FEATURES)}


def test_each_column_says_what_its_name_says() -> None:
    text = "rivers flow far. bread is baked at dawn."
    hits = [
        hit(text, dense=0.4, bm25=2.0, score=0.9, sentences=((0, 16), (17, len(text))), title="Bread and water"),
        hit("the river floods", dense=0.8, score=0.7, changed_at=NOW - timedelta(days=10)),
        hit("nothing of the kind", bm25=6.0, score=0.1, changed_at=NOW + timedelta(days=1)),
    ]
    found = columns(hits, "bread baked")
    assert found["dense"] == pytest.approx([0.4, 0.8, 0])
    assert found["bm25"] == pytest.approx([2, 0, 6])
    assert found["fused"] == pytest.approx([0.9, 0.7, 0.1])
    assert found["dense_minmax"] == pytest.approx([0, 1, 0])
    assert found["bm25_minmax"] == pytest.approx([0, 0, 1])
    assert found["reciprocal_rank"] == pytest.approx([1, 1 / 2, 1 / 3])
    assert found["dense_rank"] == pytest.approx([1 / 2, 1, 0])
    assert found["bm25_rank"] == pytest.approx([1 / 2, 0, 1])
    assert found["overlap"] == pytest.approx([1, 0, 0])
    assert found["best_sentence_overlap"] == pytest.approx([1, 0, 0])
    assert found["bigram_overlap"] == pytest.approx([1, 0, 0])
    assert found["title_overlap"] == pytest.approx([0.5, 0, 0])
    assert found["length"] == pytest.approx([math.log1p(8), math.log1p(3), math.log1p(4)])
    assert found["freshness"] == pytest.approx([0, math.log1p(10), 0])
    assert found["best_sentence"][0] > found["second_sentence"][0]
    assert found["best_sentence"][0] > max(found["best_sentence"][1:])
    assert found["second_sentence"][1:] == [0, 0]


def test_a_rare_term_weighs_more_and_terms_in_two_sentences_count_for_the_passage_only() -> None:
    text = "rivers flow. Tewkesbury lies there."
    found = columns(
        [
            hit("a river", score=0.9),
            hit("the river", score=0.8),
            hit("Tewkesbury abbey", score=0.7),
            hit(text, score=0.6, sentences=((0, 12), (13, len(text)))),
        ],
        "river Tewkesbury",
    )
    assert found["overlap"][0] == found["overlap"][1] < found["overlap"][2] < found["overlap"][3] == pytest.approx(1)
    assert found["best_sentence_overlap"][3] == pytest.approx(found["overlap"][2])
    assert found["bigram_overlap"] == [0, 0, 0, 0]


def test_a_pair_of_terms_does_not_reach_from_one_passage_into_the_next() -> None:
    found = columns([hit("by the river"), hit("floods come")], "river floods")
    assert found["bigram_overlap"] == [0, 0]
    assert columns([hit("river floods"), hit("floods come")], "river floods")["bigram_overlap"] == [1, 0]


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(alphabet="ab river.é1 ", min_size=1, max_size=40).filter(str.strip), min_size=0, max_size=6),
    query=st.text(alphabet="ab river?1", min_size=1, max_size=30).filter(str.strip),
    scores=st.lists(st.one_of(st.none(), st.floats(-1, 30)), min_size=12, max_size=12),
)
def test_any_candidates_have_finite_features_and_shares_between_0_and_1(
    texts: list[str], query: str, scores: list[float | None]
) -> None:
    hits = [
        hit(text, dense=scores[number], bm25=scores[number + 6], score=1 / (number + 1))
        for number, text in enumerate(texts)
    ]
    found = columns(hits, query)
    for name, values in found.items():
        assert np.isfinite(values).all()
        if name.endswith(("overlap", "minmax", "rank")):
            assert all(0 <= value <= 1 + 1e-6 for value in values)
    assert columns(hits, query) == found


def test_a_wrong_number_of_sentence_vectors_counts_as_none() -> None:
    one = replace(hit("the river floods"), sentence_vectors=b"\x01" * 7)
    assert columns([one, hit("river")], "river")["best_sentence"][0] == 0


def test_equal_scores_keep_the_order_of_the_search() -> None:
    assert order(np.array([1.0, 2.0, 1.0, 2.0])) == [1, 3, 0, 2]


def test_when_the_source_changed_is_kept_with_the_chunk() -> None:
    chunk = chunk_of(DOC, 1, 0, "the river", changed_at=NOW)
    assert unpack(pack(chunk), DOC.corpus) == chunk
    assert unpack(pack(replace(chunk, changed_at=None)), DOC.corpus).changed_at is None


def test_the_same_term_has_the_same_number_in_every_process() -> None:
    assert TERMS("The rivers") == [crc32(b"river")]


def test_features_of_fifty_paragraphs_take_milliseconds() -> None:
    words = [f"word{number}" for number in range(400)]
    texts = [" ".join(words[(7 * n + k * k) % 400] for k in range(120)) for n in range(50)]
    hits = [hit(text, dense=0.5, bm25=1.0, sentences=tuple((n, n + 60) for n in range(0, 600, 60))) for text in texts]
    known = [words_of(one.chunk, TERMS) for one in hits]
    vector, query = unit("word1 word2 word3", ONE), TERMS("word1 word2 word3 word4 word5")
    taken = []
    for _ in range(20):
        began = time.perf_counter()
        features_of(hits, known, query=query, vector=vector, now=NOW)
        taken.append(time.perf_counter() - began)
    assert min(taken) < 0.01
