"""Learning what people prefer: Bradley-Terry on the features of `anabranch_reward`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

# scipy ships no types.
from scipy.optimize import minimize  # type: ignore[import-untyped, unused-ignore]

from anabranch_reward import NAMES, Candidate, RewardModel, features_of
from anabranch_training.domain.texts import TextDataset, TextRow

__all__ = ["TrainedReward", "train_reward"]

Floats = npt.NDArray[np.float64]

_CLIP: Final = 5.0
_PULLS: Final = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Strengths of the pull to 0. The usual one stays unless another is clearly better."""
_USUAL: Final = 10.0
_FOLDS: Final = 5
_MOST_VOTES: Final = 3.0
_LEAST_SCALE: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedReward:
    """A model, how it was chosen and what it reached on pairs that it did not see."""

    model: RewardModel
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Features of better and worse answers, the votes, and the fold of each pair."""

    better: Floats
    worse: Floats
    votes: Floats
    folds: npt.NDArray[np.int64]


def train_reward(made: TextDataset, *, seed: int = 0) -> TrainedReward:
    """Deterministic. Metrics are of the held-out pairs; the model itself learns from all.

    Where nothing is held out, they are of the folds of cross-validation, by question.
    """
    train, held = _pairs(made.rows, seed), _pairs(made.held_out, seed)
    mean, scale = _scaling(train)
    pull, crossed = _chosen(train, mean, scale)
    seen = _fit(_differences(train, mean, scale), train.votes, pull)
    if len(held.votes):
        metrics = _metrics(_differences(held, mean, scale) @ seen, held, "held_out")
    else:
        metrics = {f"cross_validated_{name}": value for name, value in crossed.items()}
    both = _Pairs(*(np.concatenate(parts) for parts in zip(_parts(train), _parts(held), strict=True)))
    mean, scale = _scaling(both)
    weights = _fit(_differences(both, mean, scale), both.votes, pull)
    return TrainedReward(
        model=RewardModel(mean=tuple(mean.tolist()), scale=tuple(scale.tolist()), weights=tuple(weights), clip=_CLIP),
        parameters={"pull": f"{pull:g}", "clip": f"{_CLIP:g}", "seed": str(seed), "most_votes": f"{_MOST_VOTES:g}"},
        metrics={**metrics, "pairs": float(len(both.votes)), "held_out_pairs": float(len(held.votes))},
    )


def _pairs(rows: Sequence[TextRow], seed: int) -> _Pairs:
    def of(text: str, row: TextRow) -> tuple[float, ...]:
        shown = [passage.text for passage in row.served.passages]
        return features_of(Candidate(question=row.served.question, passages=shown, answer=text))

    shape = (-1, len(NAMES))
    return _Pairs(
        np.array([of(row.chosen, row) for row in rows], dtype=np.float64).reshape(shape),
        np.array([of(row.rejected, row) for row in rows], dtype=np.float64).reshape(shape),
        np.array([min(float(row.votes), _MOST_VOTES) for row in rows], dtype=np.float64),
        np.array([_fold(seed, row.served.key) for row in rows], dtype=np.int64),
    )


def _parts(pairs: _Pairs) -> tuple[Any, ...]:
    return pairs.better, pairs.worse, pairs.votes, pairs.folds


def _scaling(pairs: _Pairs) -> tuple[Floats, Floats]:
    values = np.concatenate([pairs.better, pairs.worse])
    return values.mean(axis=0), np.maximum(values.std(axis=0), _LEAST_SCALE)


def _differences(pairs: _Pairs, mean: Floats, scale: Floats) -> Floats:
    def scaled(values: Floats) -> Floats:
        return np.clip((values - mean) / scale, -_CLIP, _CLIP)

    return scaled(pairs.better) - scaled(pairs.worse)


def _fit(differences: Floats, votes: Floats, pull: float) -> Floats:
    def loss(weights: Floats) -> tuple[float, Floats]:
        odds = differences @ weights
        wrong = np.exp(-np.logaddexp(0.0, odds))
        value = votes @ np.logaddexp(0.0, -odds) + pull * weights @ weights / 2
        return float(value), pull * weights - differences.T @ (votes * wrong)

    found = minimize(loss, np.zeros(differences.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return np.asarray(found.x, dtype=np.float64)


def _chosen(pairs: _Pairs, mean: Floats, scale: Floats) -> tuple[float, Mapping[str, float]]:
    """The pull and what it reaches on unseen questions: the usual one, unless another is a standard error better."""
    differences = _differences(pairs, mean, scale)
    losses: dict[float, Floats] = {}
    odds: dict[float, Floats] = {}
    for pull in _PULLS:
        odds[pull] = np.zeros(len(pairs.votes))
        for fold in range(_FOLDS):
            out = pairs.folds == fold
            if out.any() and not out.all():
                odds[pull][out] = differences[out] @ _fit(differences[~out], pairs.votes[~out], pull)
        losses[pull] = np.logaddexp(0.0, -odds[pull])
    best = min(_PULLS, key=lambda pull: float(losses[pull].mean()))
    gain = losses[_USUAL] - losses[best]
    error = float(gain.std()) / math.sqrt(len(gain))
    pull = best if float(gain.mean()) > error > 0 else _USUAL
    return pull, _measured(odds[pull], pairs)


def _metrics(odds: Floats, pairs: _Pairs, part: str) -> Mapping[str, float]:
    return {f"{part}_{name}": value for name, value in _measured(odds, pairs).items()}


def _measured(odds: Floats, pairs: _Pairs) -> Mapping[str, float]:
    """`longer_is_better`: accuracy of preferring the longer answer, which a good model beats."""
    length = NAMES.index("length")
    longer = pairs.better[:, length] - pairs.worse[:, length]
    return {
        "accuracy": float(np.mean((odds > 0) + 0.5 * (odds == 0))),
        "log_loss": float(np.mean(np.logaddexp(0.0, -odds))),
        "longer_is_better": float(np.mean((longer > 0) + 0.5 * (longer == 0))),
    }


def _fold(seed: int, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\n{key}".encode()).digest()[:8], "big") % _FOLDS
