"""What was learned: a score for a passage from its features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["LinearScore", "TrainedReranker", "TreeScore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearScore:
    """score = clip((x - mean) / scale, -clip, +clip) @ weights + bias."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    clip: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeScore:
    """A LightGBM model in its text form; its raw prediction is the score."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedReranker:
    """A model, how it was chosen and what it reached. Deterministic: same data set and seed, same model.

    Metrics are of rows under a model that saw none of them; the model itself learned from all rows. `declined` says why
    it is not worth a place before people: where it is empty, labels it had not seen bear it out. It moves the first
    `depth` candidates of the present order; 0: all.
    """

    algorithm: str
    feature_set: str
    features: tuple[str, ...]
    score: LinearScore | TreeScore
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    declined: str = ""
    depth: int = 0
