"""Scores how likely it is that an answer to one question also answers another: boosted trees, read from JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anabranch_faults import Invalid
from anabranch_gateway.domain.caching.features import FEATURES

FORMAT: Final = "anabranch-trees-1"
_MOST: Final = 16.0  # of a logit: beyond it no evidence of ours reaches


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verifier:
    """Trees as arrays, one row a tree, one column a node. A leaf points to itself."""

    version: str
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    low: NDArray[np.int32]
    high: NDArray[np.int32]
    value: NDArray[np.float64]
    depth: int
    scale: float
    shift: float

    def logit(self, features: Sequence[float]) -> float:
        """The log-odds of being right."""
        return self.logits([features])[0]

    def logits(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """The same of several at once, which takes hardly longer than of one."""
        given = np.asarray(rows, dtype=np.float64)
        trees = np.arange(self.feature.shape[0])
        each = np.arange(given.shape[0])[:, None]
        at = np.zeros((given.shape[0], trees.size), dtype=np.int32)
        for _ in range(self.depth):
            below = given[each, self.feature[trees, at]] <= self.threshold[trees, at]
            at = np.where(below, self.low[trees, at], self.high[trees, at])
        raw = [math.fsum(one) for one in self.value[trees, at].tolist()]
        return [max(-_MOST, min(_MOST, self.scale * one + self.shift)) for one in raw]


def verifier_from(content: Mapping[str, Any]) -> Verifier:
    """Reads what the training wrote. Raises Invalid when it is not that, or not of the features computed here."""
    try:
        if content["format"] != FORMAT or tuple(content["features"]) != FEATURES:
            raise Invalid("is of another format, or of other features", field="verifier", reason="MISMATCH")
        trees = content["trees"]
        width = max(len(tree["value"]) for tree in trees)
        feature, low, high = (np.zeros((len(trees), width), dtype=np.int32) for _ in range(3))
        threshold, value = (np.zeros((len(trees), width), dtype=np.float64) for _ in range(2))
        for row, tree in enumerate(trees):
            size = len(tree["value"])
            feature[row, :size] = tree["feature"]
            threshold[row, :size] = tree["threshold"]
            low[row, :size] = tree["low"]
            high[row, :size] = tree["high"]
            value[row, :size] = tree["value"]
        inside = min(low.min(), high.min(), feature.min()) >= 0 and max(low.max(), high.max()) < width
        if not inside or feature.max() >= len(FEATURES) or not (np.isfinite(value).all()):
            raise Invalid("points outside of itself", field="verifier", reason="BROKEN")
        return Verifier(
            version=str(content["version"]),
            feature=feature,
            threshold=threshold,
            low=low,
            high=high,
            value=value,
            depth=int(content["depth"]),
            scale=float(content["scale"]),
            shift=float(content["shift"]),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise Invalid(f"cannot be read: {error}", field="verifier", reason="BROKEN") from error
