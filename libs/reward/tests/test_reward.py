from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch_faults import Invalid
from anabranch_reward import NAMES, Candidate, RewardModel, best_of, features_of

PASSAGES = ["The bridge was opened in 1894 by the king.", "Boats pass below the bridge at noon."]
QUESTION = "When was the bridge opened?"


def named(answer: str) -> dict[str, float]:
    return dict(zip(NAMES, features_of(Candidate(question=QUESTION, passages=PASSAGES, answer=answer)), strict=True))


def model(**weights: float) -> RewardModel:
    return RewardModel(
        mean=(0.0,) * len(NAMES),
        scale=(1.0,) * len(NAMES),
        weights=tuple(weights.get(name, 0.0) for name in NAMES),
        version="rw-000000000000",
    )


def test_an_answer_that_the_passages_bear_out_is_told_from_one_that_they_do_not() -> None:
    good, bad = named("The bridge was opened in 1894. [1]"), named("A tunnel collapsed in 1702.")
    assert (good["support"], good["numbers_supported"], good["citations_valid"]) == (1, 1, 1)
    assert bad["support"] < 0.5
    assert (bad["numbers_supported"], bad["citations_valid"]) == (0, 0)
    assert named("Opened in 1894. [7]")["citations_valid"] == 0
    assert named("The passages do not answer this.")["says_nothing"] == 1
    assert named("Boats pass at noon. [2] Boats sink.")["sentences_cited"] == 0.5


@given(st.text(max_size=300), st.lists(st.text(max_size=200), max_size=4), st.text(max_size=300))
def test_any_words_have_finite_features(question: str, passages: list[str], answer: str) -> None:
    values = features_of(Candidate(question=question, passages=passages, answer=answer))
    assert len(values) == len(NAMES)
    assert all(math.isfinite(value) for value in values)


def test_the_best_of_several_is_the_one_that_scores_most_and_of_equals_the_first() -> None:
    likes_support = model(support=2.0)
    answers = ["A tunnel collapsed.", "The bridge was opened in 1894.", "The bridge was opened in 1894."]
    assert best_of(likes_support, QUESTION, PASSAGES, answers) == 1
    assert best_of(model(), QUESTION, PASSAGES, answers) == 0
    with pytest.raises(Invalid, match="answers"):
        best_of(likes_support, QUESTION, PASSAGES, [])


def test_a_model_is_read_as_it_was_written_and_writes_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        model(support=1.5, length=-0.25).save(folder)
    assert [(first / name).read_bytes() for name in ("reward.json", "model.safetensors")] == [
        (second / name).read_bytes() for name in ("reward.json", "model.safetensors")
    ]
    assert RewardModel.load(first, version="rw-000000000000") == model(support=1.5, length=-0.25)


def test_what_is_no_reward_model_of_these_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no reward model"):
        RewardModel.load(tmp_path)
    model().save(tmp_path)
    about = json.loads((tmp_path / "reward.json").read_text())
    (tmp_path / "reward.json").write_text(json.dumps({**about, "feature_set": "rw-f0"}))
    with pytest.raises(Invalid, match="rw-f0"):
        RewardModel.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04pickled")
    with pytest.raises(Invalid, match="no reward model"):
        RewardModel.load(tmp_path)
    with pytest.raises(Invalid, match="finite"):
        RewardModel(mean=(0.0,), scale=(1.0,), weights=(math.nan,))


def test_a_share_is_a_chance() -> None:
    for weight in (-1000.0, -1.0, 0.0, 1.0, 1000.0):
        found = model(length=weight).share(Candidate(question=QUESTION, passages=PASSAGES, answer="It was in 1894."))
        assert 0 <= found <= 1
