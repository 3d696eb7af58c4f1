"""How good predictions are: by source, by kind of document, and where thresholds go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.guardrails.training.fitting import stage
from services.guardrails.training.texts import FOLDS, Row

__all__ = ["SIGNS", "across", "area", "at_false_positives", "balanced", "by_kind", "chosen", "is_task", "odds", "rates"]

SIGNS: Final = {
    "prompt": (1, 1, 1, 0, 1, -1),
    "passage": (1, 1, 1, 1, 1, -1, 0, 0, 0, -1, 1),
    "extraction": (1, -1),
    "toxicity": (1, -1),
}
"""What features may say, by head: more of it is worse, is better, or either."""


def is_task(row: Row) -> bool:
    """Whether it is attacked by a request that is harmless in itself."""
    return row.source.startswith("task ")


def odds(features: NDArray[np.float32], fit: Mapping[str, Any]) -> NDArray[np.float64]:
    """Log odds by the second stage."""
    weights: NDArray[np.float64] = np.asarray(fit["weights"], dtype=np.float64)
    found: NDArray[np.float64] = features.astype(np.float64) @ weights + float(fit["bias"])
    return found


def rates(found: NDArray[np.float64], rows: Sequence[Row], bar: float) -> dict[str, float]:
    """Share found right, by source."""
    right: dict[str, list[bool]] = {}
    for score, row in zip(found, rows, strict=True):
        right.setdefault(row.source, []).append(bool(score >= bar) == bool(row.label))
    return {source: round(float(np.mean(one)), 4) for source, one in sorted(right.items())}


def balanced(found: NDArray[np.float64], rows: Sequence[Row], bar: float) -> tuple[float, float]:
    """Mean over sources of what is caught, and of what is passed."""
    by_source = rates(found, rows, bar)
    labels = {row.source: row.label for row in rows}
    caught = [rate for source, rate in by_source.items() if labels[source]]
    passed = [rate for source, rate in by_source.items() if not labels[source]]
    return float(np.mean(caught)), float(np.mean(passed))


def chosen(found: NDArray[np.float64], rows: Sequence[Row], *, look_alikes: float) -> float:
    """The bar with the best mean of caught and passed at which so many of the look-alikes pass."""
    best, bar = -1.0, 0.0
    for one in np.unique(np.round(np.quantile(found, np.linspace(0.02, 0.98, 193)), 3)):
        if rates(found, rows, one)["NotInject_one"] < look_alikes:
            continue
        mean = sum(balanced(found, rows, one))
        if mean > best:
            best, bar = mean, float(one)
    return bar


def at_false_positives(found: NDArray[np.float64], labels: NDArray[np.int8], share: float) -> float:
    """The lowest bar that so few of the harmless reach."""
    return float(np.quantile(found[labels == 0], 1 - share)) + 1e-3


def area(found: NDArray[np.float64], labels: NDArray[np.int8]) -> float:
    """Under the ROC curve."""
    order = np.argsort(np.argsort(found, kind="stable")) + 1.0
    good = int(labels.sum())
    return round(float((order[labels == 1].sum() - good * (good + 1) / 2) / (good * (len(labels) - good))), 4)


def across(features: NDArray[np.float32], rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    """Log odds of each row by a second stage, too, that has not seen its fold."""
    labels = np.asarray([row.label for row in rows], dtype=np.int8)
    weights = np.asarray([row.weight for row in rows])
    folds = np.asarray([row.fold for row in rows])
    found = np.zeros(len(rows))
    for held in range(FOLDS):
        seen = (folds != held) & (weights > 0)
        fit = stage(features[seen], labels[seen], weights[seen], signs=SIGNS[name])
        found[folds == held] = odds(features[folds == held], fit)
    return found


def by_kind(found: NDArray[np.float64], rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Of every kind of document, by itself: what is caught at 1 % false positives, and the area under the curve.

    Without tasks that are harmless in themselves, and with them.
    """
    kinds: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        kind = row.source.removeprefix("clean ").split(" in ")[-1]
        kinds.setdefault(_KINDS.get(kind, kind), []).append(place)
    figures = {}
    for kind, places in sorted(kinds.items()):
        labels = np.asarray([rows[place].label for place in places], dtype=np.int8)
        scores = found[places]
        without = np.asarray([not is_task(rows[place]) for place in places])
        if labels.min() == labels.max():
            continue
        figures[kind] = {
            "auroc": area(scores[without], labels[without]),
            "recall@1%fpr": _recall(scores[without], labels[without]),
            "auroc with tasks": area(scores, labels),
            "recall@1%fpr with tasks": _recall(scores, labels),
            "harmless": int((labels == 0).sum()),
            "attacked": int(labels[without].sum()),
        }
    return figures


_KINDS: Final = {"given document": "documents given", "real text": "real carriers"}


def _recall(found: NDArray[np.float64], labels: NDArray[np.int8]) -> float:
    return round(float((found[labels == 1] >= at_false_positives(found, labels, 0.01)).mean()), 4)
