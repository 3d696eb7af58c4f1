"""Which model: chosen by cross-validation over questions, in doubt the one closest to the present order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from anabranch_faults import Invalid
from anabranch_training.adapters.learners import linear, trees
from anabranch_training.adapters.learners.table import Floats, Ints, Table
from anabranch_training.domain import FEATURE_SET, RF1, LinearScore, RankingDataset, TrainedReranker, TreeScore

__all__ = ["order_rows", "score_rows", "train_reranker"]

_RIDGES: Final = (300.0, 100.0, 30.0, 10.0, 3.0)
"""From nearly the present order to nearly what the labels say."""
_USUAL: Final = 10.0
"""Taken where labels are few: what a choice among others would gain there is less than the luck in it."""
_FOLDS: Final = 5
_MANY: Final = 10_000
"""Rows from which on trees are tried: below, they learn the noise."""
_FEWEST_QUESTIONS: Final = 5
_BEYOND: Final = 2
"""People have judged what they were shown. What lies further down than this many times that is not moved, ..."""
_CLEAR: Final = 0.037
"""... unless unseen labels are likelier by this much each (nats): then the present order is poor, and there is much to
find further down."""
_SURE: Final = 2.0
"""Standard errors by which labels that were not seen must be likelier under a model than under the present order."""


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
    trial = _Trial(inside, seed=seed)
    # Trees are bound to "more of a match is never worse": a drill cannot turn them round.
    ways = _ways(feature_names, noise=dataset.noise, seed=seed, many=many, trees_too=not reverse, signs=not reverse)
    reached = {way.name: trial.reached(way, many=many) for way in ways}
    # The first of those that are as good.
    chosen = max(ways, key=lambda way: reached[way.name].value)
    kind = "ndcg10" if many else "concordance"
    present = _Way(name="before", fit=_straight(feature_names, ridge=_USUAL, noise=dataset.noise, only=True))
    usual = next(way for way in ways if way.name == f"ridge {_USUAL:g}")
    before = trial.reached(present, many=many)
    gain, error = trial.borne_out(usual, present, noise=dataset.noise)
    metrics = {f"cv_{kind}.{name}": found.value for name, found in reached.items()}
    metrics |= {f"cv_{kind}.before": before.value, "cv_log_likelihood.gain": gain, "cv_log_likelihood.error": error}
    metrics |= _held_out(chosen, inside, dataset, feature_names, reverse=reverse)
    score = chosen.fit(everything)
    # Gold labels were not shown to anybody: they are of all candidates.
    depth = 0 if reverse or gain > _CLEAR else _BEYOND * max(row.shown_rank for row in rows)
    return TrainedReranker(
        algorithm="logistic" if isinstance(score, LinearScore) else "lambdamart",
        feature_set=FEATURE_SET,
        features=feature_names,
        score=score,
        parameters={
            "way": chosen.name,
            "seed": str(seed),
            "reverse": str(reverse).lower(),
            "folds": str(_FOLDS),
            "depth": str(depth),
        },
        metrics=metrics,
        depth=depth,
        declined="" if reverse else _declined(gain, error, ahead=not many or reached[chosen.name].value > before.value),
    )


def score_rows(score: LinearScore | TreeScore, features: Floats) -> Floats:
    """The score of each row of features."""
    return linear.scores(score, features) if isinstance(score, LinearScore) else trees.scores(score, features)


def order_rows(model: TrainedReranker, features: Floats) -> Ints:
    """The order that the model gives candidates that stand in the present order."""
    depth = model.depth or len(features)
    first = np.argsort(-score_rows(model.score, features[:depth]), kind="stable")
    return np.concatenate([first, np.arange(len(first), len(features))])


def _straight(
    names: tuple[str, ...], *, ridge: float, noise: float, signs: bool = True, only: bool = False
) -> Callable[[Table], LinearScore]:
    return lambda table: linear.fit(
        table, names, ridge=ridge, noise=noise, signs=signs, only=linear.PRIOR if only else ""
    )


def _ways(names: tuple[str, ...], *, noise: float, seed: int, many: bool, trees_too: bool, signs: bool) -> list[_Way]:
    ways = [
        _Way(name=f"ridge {ridge:g}", fit=_straight(names, ridge=ridge, noise=noise, signs=signs))
        for ridge in (_RIDGES if many else (_USUAL,))
    ]
    if many and trees_too:
        ways.append(_Way(name="lambdamart", fit=lambda table: trees.fit(table, names, seed=seed)))
    return ways


class _Trial:
    """Cross-validation over questions; each way is fitted once for each part."""

    def __init__(self, table: Table, *, seed: int) -> None:
        questions = int(table.questions.max()) + 1
        parts = np.random.default_rng(seed).permutation(questions)[table.questions] % _FOLDS
        self._parts = [(table.where(parts != part), table.where(parts == part)) for part in range(_FOLDS)]
        self._fits: dict[str, list[LinearScore | TreeScore]] = {}

    def fits(self, way: _Way) -> list[LinearScore | TreeScore]:
        if way.name not in self._fits:
            self._fits[way.name] = [way.fit(rest) for rest, _ in self._parts]
        return self._fits[way.name]

    def reached(self, way: _Way, *, many: bool) -> _Reached:
        # nDCG needs most of a question's candidates labelled; of a handful, only pairs can be compared.
        found = []
        for score, (_, left) in zip(self.fits(way), self._parts, strict=True):
            told = score_rows(score, left.features)
            found.append(left.gain(told) if many else left.concordance(told))
        right, whole = (np.concatenate(some) for some in zip(*found, strict=True))
        return _Reached(right=right, whole=whole)

    def borne_out(self, way: _Way, other: _Way, *, noise: float) -> tuple[float, float]:
        """How much likelier labels are under a model that did not see them than under another; the error of that.

        Mean over judgments, in nats. Questions are independent of each other, the judgments of one are not.
        """
        gained, judged = [], 0
        for model, against, (_, left) in zip(self.fits(way), self.fits(other), self._parts, strict=True):
            if isinstance(model, LinearScore) and isinstance(against, LinearScore):
                ahead, behind = (linear.log_likelihood(one, left, noise=noise) for one in (model, against))
                gained.append(np.bincount(left.questions, weights=ahead - behind))
                judged += len(left.labels)
        by_question = np.concatenate(gained)
        return float(by_question.sum()) / judged, float(by_question.std() * np.sqrt(len(by_question))) / judged


def _declined(gain: float, error: float, *, ahead: bool) -> str:
    if gain <= _SURE * error:
        yet = " yet" if gain > 0 else ""
        return (
            f"nothing to gain{yet}: labels that were not learned from are {gain:+.4f} nats likelier each than under "
            f"the present order, give or take {error:.4f}; more than {_SURE:g} times that was needed"
        )
    return "" if ahead else "nothing to gain: on questions that were not learned from, the present order is as good"


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
