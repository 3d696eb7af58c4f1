from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from safetensors.numpy import load_file

from anabranch_faults import Invalid
from anabranch_training.adapters.learners import choosing, order_rows, score_rows, train_reranker, write_reranker
from anabranch_training.domain import (
    GOLD,
    RF1,
    Judgment,
    LinearScore,
    RankingDataset,
    RankingRow,
    TreeScore,
    build_ranking_dataset,
)

FUSED, OVERLAP = RF1.index("fused"), RF1.index("overlap")


def judgments(questions: int = 200, each: int = 6, *, noise: float = 0.15, seed: int = 0) -> list[Judgment]:
    """Relevant is what the search and the overlap together find; the search alone is only half right."""
    chance = np.random.default_rng(seed)
    found = []
    for question in range(questions):
        for place in range(each):
            features = chance.normal(size=len(RF1))
            truth = features[FUSED] + features[OVERLAP] > 0
            found.append(
                Judgment(
                    question=f"q{question}",
                    document=f"d{question}-{place}",
                    chunk=f"c{question}-{place}",
                    user=f"u{chance.integers(100)}",
                    label=float(truth != (chance.random() < noise)),
                    shown_rank=place + 1,
                    randomised=False,
                    features=tuple(features.tolist()),
                    at=datetime(2026, 3, 1, tzinfo=UTC),
                    source="citation",
                )
            )
    return found


def gold(questions: int, each: int) -> list[Judgment]:
    return [replace(one, source=GOLD, shown_rank=0, user="") for one in judgments(questions, each, noise=0.0)]


def agreement(scores: np.ndarray[tuple[int], np.dtype[np.float64]], features: np.ndarray) -> float:
    truth = features[:, FUSED] + features[:, OVERLAP]
    return float(np.corrcoef(scores, truth)[0, 1])


UNSEEN = np.random.default_rng(99).normal(size=(2000, len(RF1)))


def test_what_people_prefer_is_learned_through_their_noise() -> None:
    model = train_reranker(build_ranking_dataset(judgments()))
    assert isinstance(model.score, LinearScore)
    assert agreement(UNSEEN[:, FUSED], UNSEEN) < 0.75
    assert agreement(score_rows(model.score, UNSEEN), UNSEEN) > 0.97
    assert model.metrics["held_out_concordance.after"] > model.metrics["held_out_concordance.before"]


def test_the_same_data_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_reranker(train_reranker(build_ranking_dataset(judgments(60)), seed=4), tmp_path / name)
    for file in ("reranker.json", "model.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_labels_without_meaning_leave_the_order_nearly_as_it_was() -> None:
    chance = np.random.default_rng(1)
    said = [replace(one, label=float(chance.random() < 0.5)) for one in judgments(80)]
    rows = [
        RankingRow(
            question=one.question,
            document=one.document,
            chunk=one.chunk,
            label=one.label,
            weight=1.0,
            shown_rank=one.shown_rank,
            features=one.features,
        )
        for one in said
    ]
    model = train_reranker(bare(rows))
    assert isinstance(model.score, LinearScore)
    assert all(weight >= 0 for weight, name in zip(model.score.weights, RF1, strict=True) if name not in FREE)


FREE = {"length", "freshness"}


def bare(rows: list[RankingRow]) -> RankingDataset:
    return replace(build_ranking_dataset(judgments(30)), rows=tuple(rows), held_out=(), noise=0.15)


def test_reversed_labels_turn_the_order_round() -> None:
    model = train_reranker(build_ranking_dataset(judgments()), reverse=True)
    assert agreement(score_rows(model.score, UNSEEN), UNSEEN) < -0.9
    assert model.parameters["reverse"] == "true"


def test_a_feature_that_matches_never_counts_against_a_passage() -> None:
    chance = np.random.default_rng(3)
    hated = [
        replace(
            one,
            features=tuple(
                chance.normal() - 2 * one.label if name == "bm25" else value
                for name, value in zip(RF1, one.features, strict=True)
            ),
        )
        for one in judgments(100)
    ]
    model = train_reranker(build_ranking_dataset(hated))
    assert isinstance(model.score, LinearScore)
    assert 0 <= model.score.weights[RF1.index("bm25")] < 0.1 * model.score.weights[FUSED]


def test_a_feature_that_never_varies_has_no_weight() -> None:
    still = RF1.index("freshness")
    said = [replace(one, features=(*one.features[:still], 0.0, *one.features[still + 1 :])) for one in judgments(60)]
    model = train_reranker(build_ranking_dataset(said))
    assert isinstance(model.score, LinearScore)
    assert model.score.weights[still] == 0
    assert np.isfinite(score_rows(model.score, UNSEEN)).all()


def test_trees_are_tried_when_labels_are_many_and_the_better_way_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_MANY", 1_000)
    model = train_reranker(build_ranking_dataset(gold(80, 16)))
    tried = {name.removeprefix("cv_ndcg10.") for name in model.metrics if name.startswith("cv_ndcg10.")}
    assert {"lambdamart", "before"} < tried
    assert model.metrics[f"cv_ndcg10.{model.parameters['way']}"] == max(
        value for name, value in model.metrics.items() if name.startswith("cv_ndcg10.")
    )
    assert agreement(score_rows(model.score, UNSEEN), UNSEEN) > 0.9


def test_a_linear_model_is_written_as_the_contract_says_and_scores_the_same(tmp_path: Path) -> None:
    model = train_reranker(build_ranking_dataset(judgments(60)))
    write_reranker(model, tmp_path)
    about = json.loads((tmp_path / "reranker.json").read_text())
    assert about == {"format": "safetensors", "algorithm": "logistic", "feature_set": "rf-1", "features": list(RF1)}
    held = load_file(tmp_path / "model.safetensors")
    standard = np.clip((UNSEEN - held["mean"]) / held["scale"], -held["clip"][0], held["clip"][0])
    assert standard @ held["weights"] + held["bias"][0] == pytest.approx(score_rows(model.score, UNSEEN))
    assert {str(tensor.dtype) for tensor in held.values()} == {"float64"}


def test_what_nobody_was_shown_keeps_its_place_unless_there_is_much_to_find_there(tmp_path: Path) -> None:
    dataset = build_ranking_dataset(judgments(60))
    much = train_reranker(dataset)
    assert (much.depth, much.parameters["depth"]) == (0, "0")
    shallow = replace(much, depth=12)
    assert order_rows(shallow, UNSEEN[:40]).tolist()[12:] == list(range(12, 40))
    assert sorted(order_rows(shallow, UNSEEN[:40]).tolist()) == list(range(40))
    assert order_rows(much, UNSEEN[:40]).tolist() != order_rows(shallow, UNSEEN[:40]).tolist()
    write_reranker(shallow, tmp_path)
    assert json.loads((tmp_path / "reranker.json").read_text())["depth"] == 12
    coins = np.random.default_rng(1)
    little = [replace(one, label=float(coins.random() < 0.5)) for one in judgments(100)]
    assert train_reranker(build_ranking_dataset(little)).depth == 12, "twice what was shown"


def test_a_tree_model_is_written_as_text_and_scores_the_same(tmp_path: Path) -> None:
    from anabranch_training.adapters.learners import trees  # noqa: PLC0415  only here
    from anabranch_training.adapters.learners.table import Table  # noqa: PLC0415  only here

    rows = build_ranking_dataset(gold(40, 10)).rows
    score = trees.fit(Table.of(rows), RF1, seed=1, rounds=10)
    linear = train_reranker(build_ranking_dataset(judgments(60)))
    write_reranker(replace(linear, score=score, algorithm="lambdamart"), tmp_path)
    assert json.loads((tmp_path / "reranker.json").read_text())["format"] == "lightgbm"
    booster = lightgbm.Booster(model_file=tmp_path / "model.txt")
    assert booster.predict(UNSEEN) == pytest.approx(score_rows(TreeScore(text=score.text), UNSEEN))


def test_rows_that_do_not_fit_the_names_are_refused() -> None:
    with pytest.raises(Invalid) as caught:
        train_reranker(build_ranking_dataset(judgments(30)), feature_names=("dense", "bm25"))
    assert caught.value.reason == "FEATURES"


def test_a_handful_of_questions_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        train_reranker(build_ranking_dataset(judgments(4, 20)))
    assert caught.value.reason == "TOO_FEW"


def test_one_label_is_refused() -> None:
    rows = [replace(row, label=1.0) for row in build_ranking_dataset(judgments(30)).rows]
    with pytest.raises(Invalid) as caught:
        train_reranker(bare(rows))
    assert caught.value.reason == "ONE_LABEL"
