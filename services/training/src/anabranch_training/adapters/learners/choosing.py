"""Which model: chosen by cross-validation over questions, in doubt the one closest to the present order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from anabranch_faults import Invalid
from anabranch_training.adapters.learners import linear, trees
from anabranch_training.adapters.learners.table import Floats, Table
from anabranch_training.domain import FEATURE_SET, RF1, LinearScore, RankingDataset, TrainedReranker, TreeScore

__all__ = ["score_rows", "train_reranker"]

_RIDGES: Final = (1000.0, 300.0, 100.0, 20.0, 5.0)
"""From nearly the present order to nearly what the labels say."""
_USUAL: Final = 20.0
"""Taken unless another is better by a standard error: on few noisy pairs the best of five is mostly luck."""
_FOLDS: Final = 5
_MANY: Final = 10_000
"""Rows from which on trees are tried: below, they learn the noise."""
_FEWEST_QUESTIONS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    name: str
    fit: Callable[[Table], LinearScore | TreeScore]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reached:
    """By question, in the same order for every way."""

    right: Floats
    whole: Floats

    @property
    def value(self) -> float:
        return float(self.right.sum() / self.whole.sum()) if self.whole.sum() else 0.5

    def lead_over(self, other: _Reached) -> tuple[float, float]:
        """How much better this is, and the standard error of that; questions are independent, their pairs are not."""
        total = float(self.whole.sum()) or 1.0
        lead = self.value - other.value
        spread = self.right - other.right - lead * self.whole
        return lead, float(np.sqrt((spread**2).sum())) / total


def train_reranker(
    dataset: RankingDataset, *, feature_names: tuple[str, ...] = RF1, seed: int = 0, reverse: bool = False
) -> TrainedReranker:
    """Learns a score. The same data set and seed give the same model, byte for byte.

    `reverse` turns all labels round and leaves the safeguards out (drill: the gate must refuse the result). Raises
    Invalid with reason FEATURES (rows do not fit the names), TOO_FEW (questions) or ONE_LABEL.
    """
    rows = (*dataset.rows, *dataset.held_out)
    if any(len(row.features) != len(feature_names) for row in rows):
        raise Invalid(f"must be {len(feature_names)} for each row", field="features", reason="FEATURES")
    if len({row.question for row in dataset.rows}) < _FEWEST_QUESTIONS:
        raise Invalid(f"has under {_FEWEST_QUESTIONS} questions", field="dataset", reason="TOO_FEW")
    inside, everything = Table.of(dataset.rows, reverse=reverse), Table.of(rows, reverse=reverse)
    if everything.labels.min() > 0.5 or everything.labels.max() <= 0.5:  # noqa: PLR2004  the middle
        raise Invalid("has one label only", field="dataset", reason="ONE_LABEL")
    many = len(rows) >= _MANY
    # Trees are bound to "more of a match is never worse": a drill cannot turn them round.
    ways = _ways(feature_names, noise=dataset.noise, seed=seed, trees_too=many and not reverse, signs=not reverse)
    reached = {way.name: _cross_validated(way, inside, seed=seed, many=many) for way in ways}
    chosen = _chosen(ways, reached, margin=0.0 if many else 1.0)
    kind = "ndcg10" if many else "concordance"
    metrics = {f"cv_{kind}.{name}": found.value for name, found in reached.items()}
    metrics |= _held_out(chosen, inside, dataset, feature_names, reverse=reverse)
    score = chosen.fit(everything)
    return TrainedReranker(
        algorithm="logistic" if isinstance(score, LinearScore) else "lambdamart",
        feature_set=FEATURE_SET,
        features=feature_names,
        score=score,
        parameters={"way": chosen.name, "seed": str(seed), "reverse": str(reverse).lower(), "folds": str(_FOLDS)},
        metrics=metrics,
    )


def score_rows(score: LinearScore | TreeScore, features: Floats) -> Floats:
    """The score of each row of features."""
    return linear.scores(score, features) if isinstance(score, LinearScore) else trees.scores(score, features)


def _ways(names: tuple[str, ...], *, noise: float, seed: int, trees_too: bool, signs: bool) -> list[_Way]:
    def straight(ridge: float) -> Callable[[Table], LinearScore]:
        return lambda table: linear.fit(table, names, ridge=ridge, noise=noise, signs=signs)

    ways = [_Way(name=f"ridge {ridge:g}", fit=straight(ridge)) for ridge in _RIDGES]
    return [*ways, _Way(name="lambdamart", fit=lambda table: trees.fit(table, names, seed=seed))] if trees_too else ways


def _chosen(ways: list[_Way], reached: Mapping[str, _Reached], *, margin: float) -> _Way:
    usual = next(way for way in ways if way.name == f"ridge {_USUAL:g}")
    best = max(ways, key=lambda way: reached[way.name].value)
    lead, error = reached[best.name].lead_over(reached[usual.name])
    return best if lead > margin * error else usual


def _cross_validated(way: _Way, table: Table, *, seed: int, many: bool) -> _Reached:
    # nDCG needs most of a question's candidates labelled; of a handful, only pairs can be compared.
    questions = int(table.questions.max()) + 1
    fold = np.random.default_rng(seed).permutation(questions) % _FOLDS
    right, whole = [], []
    for number in range(_FOLDS):
        out = fold[table.questions] == number
        rest = table.where(~out)
        model, left = way.fit(rest), table.where(out)
        told = score_rows(model, left.features)
        good, all_of_it = left.gain(told) if many else left.concordance(told)
        right.append(good)
        whole.append(all_of_it)
    return _Reached(right=np.concatenate(right), whole=np.concatenate(whole))


def _held_out(
    way: _Way, inside: Table, dataset: RankingDataset, names: tuple[str, ...], *, reverse: bool
) -> dict[str, float]:
    if not dataset.held_out:
        return {}
    outside = Table.of(dataset.held_out, reverse=reverse)
    found = {}
    present = outside.features[:, names.index(linear.PRIOR)] if linear.PRIOR in names else np.zeros(len(outside.labels))
    for name, told in (("before", present), ("after", score_rows(way.fit(inside), outside.features))):
        right, whole = outside.concordance(told)
        if whole.sum():
            found[f"held_out_concordance.{name}"] = float(right.sum() / whole.sum())
    return found
