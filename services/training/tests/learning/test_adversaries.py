"""A small world in which some people act together: what they may and may not bring about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from anabranch_training.adapters.learners import score_rows, train_reranker
from anabranch_training.domain import RF1, Judgment, TrainedReranker, build_ranking_dataset

FUSED = RF1.index("fused")
TEACHES = [RF1.index(name) for name in ("best_sentence", "overlap", "bigram_overlap")]
USERS = 150

Lie = Callable[[bool, int, str], bool]
LIES: dict[str, Lie] = {
    "inverse": lambda truth, _rank, _document: not truth,
    "push": lambda _truth, _rank, document: document == "d7",
    "sly": lambda truth, rank, _document: truth == (rank == 1),
}


def drawn(chance: np.random.Generator, questions: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Five passages a question, in the order of `fused`; and which are right."""
    features = chance.normal(size=(questions, 5, len(RF1)))
    features[:, :, FUSED] = -np.sort(-features[:, :, FUSED], axis=1)
    worth = features[:, :, FUSED] + 0.5 * features[:, :, TEACHES].sum(axis=2) - 0.5
    return features, worth > 0


def said(seed: int, *, lie: Lie | None = None, share: float = 0.1, noise: float = 0.15) -> list[Judgment]:
    chance = np.random.default_rng(seed)
    features, right = drawn(chance, 200)
    looks = 1 / np.arange(1, 6)
    found = []
    for _ in range(1200):
        question, user = int(chance.integers(200)), int(chance.integers(USERS))
        place = int(chance.choice(5, p=looks / looks.sum()))
        truth, document = bool(right[question, place]), f"d{(question + place) % 60}"
        label = truth != (chance.random() < noise)
        if lie is not None and user < share * USERS:
            label = lie(truth, place + 1, document)
        found.append(
            Judgment(
                question=f"q{question}",
                document=document,
                chunk=f"c{question}-{place}",
                user=f"u{user}",
                label=float(label),
                shown_rank=place + 1,
                randomised=False,
                features=tuple(features[question, place].tolist()),
                at=datetime(2026, 3, 1, tzinfo=UTC),
                source="citation",
            )
        )
    return found


def learned(judgments: list[Judgment]) -> TrainedReranker:
    return train_reranker(build_ranking_dataset(judgments))


def ordered(score: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> float:
    """How many pairs of a right and a wrong passage, of questions nobody asked, are the right way round."""
    features, right = drawn(np.random.default_rng(10**6), 400)
    scores = score(features.reshape(-1, len(RF1))).reshape(right.shape)
    ahead = (scores[:, :, None] > scores[:, None, :]) & right[:, :, None] & ~right[:, None, :]
    return float(ahead.sum() / (right[:, :, None] & ~right[:, None, :]).sum())


def after(model: TrainedReranker) -> float:
    return ordered(lambda features: score_rows(model.score, features))


BEFORE = ordered(lambda features: features[:, FUSED])


@pytest.mark.parametrize("way", LIES)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_coordinated_tenth_leaves_most_of_what_honest_people_teach(way: str, seed: int) -> None:
    honest, misled = (after(learned(said(seed, lie=lie))) for lie in (None, LIES[way]))
    assert honest > BEFORE + 0.05
    assert misled > BEFORE + 0.7 * (honest - BEFORE)


@pytest.mark.parametrize("way", LIES)
def test_three_in_ten_who_act_together_never_make_a_candidate_that_is_worse(way: str) -> None:
    model = learned(said(3, lie=LIES[way], share=0.3))
    assert model.declined or after(model) >= BEFORE


@pytest.mark.parametrize("seed", range(5))
def test_labels_by_lot_make_no_candidate(seed: int) -> None:
    model = learned(said(seed, noise=0.5))
    assert model.declined.startswith("nothing to gain")
    assert model.metrics["cv_log_likelihood.gain"] <= 2 * model.metrics["cv_log_likelihood.error"]


def test_labels_that_mean_something_make_one() -> None:
    model = learned(said(1))
    assert model.declined == ""
    assert model.metrics["cv_log_likelihood.gain"] > 2 * model.metrics["cv_log_likelihood.error"]


def test_a_drill_is_never_declined() -> None:
    assert train_reranker(build_ranking_dataset(said(1, noise=0.5)), reverse=True).declined == ""
