"""Names, parts, fusion, near-duplicates, sentences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch_faults import Invalid, TooLarge
from anabranch_retrieval.adapters import tokens
from anabranch_retrieval.domain import (
    CorpusKey,
    DocumentKey,
    Hit,
    Question,
    Scored,
    SearchSettings,
    fuse,
    sentences_of,
    without_near_duplicates,
)
from anabranch_retrieval.testing import chunk_of, document_of, model, part_of, unit

NAMES = st.text(alphabet="abAB01._-", min_size=1, max_size=64)
SCORES = st.dictionaries(st.text(alphabet="abcdef", min_size=1, max_size=3), st.floats(-10, 100))
ONE = model()


@given(vector=SCORES, keyword=SCORES, alpha=st.floats(0, 1))
def test_fused_scores_lie_between_0_and_1_best_first_and_name_each_candidate_once(
    vector: dict[str, float], keyword: dict[str, float], alpha: float
) -> None:
    fused = fuse(vector, keyword, alpha=alpha)
    assert {one.chunk_id for one in fused} == vector.keys() | keyword.keys()
    assert len(fused) == len({one.chunk_id for one in fused})
    assert all(0 <= one.score <= 1 + 1e-9 for one in fused)
    assert [one.score for one in fused] == sorted((one.score for one in fused), reverse=True)
    assert all(one.vector_score == vector.get(one.chunk_id) for one in fused)


@given(scores=SCORES, factor=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_the_scale_of_a_half_does_not_matter(scores: dict[str, float], factor: float, shift: float) -> None:
    scaled = {name: score * factor + shift for name, score in scores.items()}
    before = {one.chunk_id: one.score for one in fuse(scores, {}, alpha=0.5)}
    after = {one.chunk_id: one.score for one in fuse(scaled, {}, alpha=0.5)}
    if len(set(scores.values())) == len(set(scaled.values())):
        spread = max(scores.values(), default=0) - min(scores.values(), default=0)
        if spread == 0 or spread > 1e-3:
            assert after == pytest.approx(before, abs=1e-6)


@given(first=st.tuples(NAMES, NAMES), second=st.tuples(NAMES, NAMES))
def test_two_corpora_never_share_a_name_in_the_index(first: tuple[str, str], second: tuple[str, str]) -> None:
    names = {tokens.corpus(CorpusKey(tenant=tenant, corpus=corpus)) for tenant, corpus in (first, second)}
    assert len(names) == len({first, second})
    assert all(len(name) <= 63 and name.isidentifier() for name in names)


@given(one=st.dictionaries(st.text(), st.text(), max_size=3), two=st.dictionaries(st.text(), st.text(), max_size=3))
def test_different_metadata_never_share_their_tokens(one: dict[str, str], two: dict[str, str]) -> None:
    assert (tokens.facets(one) == tokens.facets(two)) == (one == two)


@pytest.mark.parametrize("label", ["everyone", "*", "", "c_x"])
def test_no_label_stands_for_everyone(label: str) -> None:
    assert tokens.EVERYONE not in tokens.labels([label])
    assert not set(tokens.readers(["other"])) & set(tokens.labels([label]))


TEXT = "The river Wye rises on the slopes of Plynlimon and flows south through Hay and Hereford to the Severn"


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        ([TEXT, TEXT.upper() + "!"], 1),
        ([TEXT, TEXT.replace("Hay", "Ross")], 2),
        ([TEXT * 4, TEXT * 4 + " Indeed."], 1),
        (["yes", "Yes.", "no"], 2),
        (["...", "---", "..."], 2),
        ([TEXT, "Bread is baked from flour and water by a baker at dawn"], 2),
    ],
)
def test_only_what_says_the_same_in_the_same_words_is_collapsed(texts: list[str], kept: int) -> None:
    left = list(without_near_duplicates(texts, text=str))
    assert len(left) == kept
    assert left[0] == texts[0]


@given(st.lists(st.text(max_size=40), max_size=12))
def test_collapsing_keeps_the_order_and_nothing_twice(texts: list[str]) -> None:
    left = list(without_near_duplicates(texts, text=str))
    assert left == [text for index, text in enumerate(texts) if text in left and text not in texts[:index]]
    assert list(without_near_duplicates(left, text=str)) == left


def test_sentences_get_the_cosine_of_their_stored_vectors_and_none_where_there_are_none() -> None:
    chunk = chunk_of(document_of("d"), 1, 0, "One two. Three four.", sentences=((0, 8), (9, 20)))
    rows = np.stack([unit("One two.", ONE), unit("Three four.", ONE)])
    found = Scored(chunk_id=chunk.id, score=1, vector_score=1, keyword_score=None)
    hit = Hit(found=found, chunk=chunk, sentence_vectors=np.rint(rows * 127).astype(np.int8).tobytes())
    first, second = sentences_of(hit, rows[1])
    assert first.similarity == pytest.approx(float(rows[0] @ rows[1]), abs=0.02)
    assert second.similarity == pytest.approx(1, abs=0.02)
    for wrong in (b"", b"123"):
        sentences = sentences_of(replace(hit, sentence_vectors=wrong), rows[1])
        assert [(one.start, one.end, one.similarity) for one in sentences] == [(0, 8, None), (9, 20, None)]


@pytest.mark.parametrize("tenant", ["", "a/b", "a b", "ä", "a" * 65, "a\n"])
def test_a_tenant_outside_its_alphabet_is_refused(tenant: str) -> None:
    with pytest.raises(Invalid, match="tenant"):
        CorpusKey(tenant=tenant, corpus="c")


def test_limits_of_a_question_are_named() -> None:
    corpus = CorpusKey(tenant="t", corpus="c")
    with pytest.raises(TooLarge, match="4096"):
        Question(corpus=corpus, text="x" * 4097, settings=SearchSettings())
    with pytest.raises(Invalid, match="blank"):
        Question(corpus=corpus, text=" \n", settings=SearchSettings())
    for wrong in ({"alpha": 1.1}, {"alpha": float("nan")}, {"top_k": 0}, {"top_k": 101}):
        with pytest.raises(Invalid, match="must be"):
            SearchSettings(**wrong)
    with pytest.raises(Invalid):
        DocumentKey(corpus=corpus, document_id="")


def test_parts_that_cannot_add_up_are_refused() -> None:
    part = part_of(document_of("d"), 1, ["one", "two"], of=ONE)
    wrong: list[dict[str, object]] = [
        {"version": 0},
        {"version": 2**63},
        {"part": 1},
        {"entries": ()},
        {"chunk_count": 3},
        {"entries": (part.entries[0], part.entries[0])},
        {"model": model(dimension=32)},
        {"entries": (replace(part.entries[0], sentence_vectors=b"123"), part.entries[1])},
    ]
    for fault in wrong:
        with pytest.raises(Invalid):
            replace(part, **fault)  # type: ignore[arg-type]  # one at a time
