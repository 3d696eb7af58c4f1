"""The model: a weighted sum of features, learned from which of two answers people preferred."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from anabranch_faults import Invalid
from anabranch_reward.features import FEATURE_SET, NAMES, Candidate, features_of

__all__ = ["RewardModel", "best_of"]

_ABOUT: Final = "reward.json"
_TENSORS: Final = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardModel:
    """score = clip((x - mean) / scale, -clip, +clip) @ weights.

    The difference of two answers' scores is the log of the odds that people prefer the first. Scores compare answers to
    the same question best; 0 is the average answer of those it learned from.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    clip: float = 5.0
    version: str = ""

    def __post_init__(self) -> None:
        """Refuses what does not fit the features."""
        for name in ("mean", "scale", "weights"):
            values = getattr(self, name)
            if len(values) != len(NAMES) or not all(math.isfinite(value) for value in values):
                raise Invalid(f"must be {len(NAMES)} finite numbers", field=name, reason="BAD_MODEL")
        if min(self.scale) <= 0 or not self.clip > 0:
            raise Invalid("must be above 0", field="scale", reason="BAD_MODEL")

    def score(self, candidate: Candidate) -> float:
        """Any number, more is better."""
        return self.score_features(features_of(candidate))

    def score_features(self, features: Sequence[float]) -> float:
        """The same of features in the order of `NAMES`."""
        rows = zip(features, self.mean, self.scale, self.weights, strict=True)
        return math.fsum(
            max(-self.clip, min(self.clip, (value - mean) / scale)) * weight for value, mean, scale, weight in rows
        )

    def share(self, candidate: Candidate) -> float:
        """The chance that people prefer it to an average answer, 0 to 1."""
        score = self.score(candidate)
        return 1 / (1 + math.exp(-score)) if score >= 0 else 1 - 1 / (1 + math.exp(score))

    @classmethod
    def load(cls, folder: Path, *, version: str = "") -> RewardModel:
        """Read an artifact that was verified. Raises Invalid with reason BAD_MODEL."""
        try:
            about: Mapping[str, Any] = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            tensors = load((folder / _TENSORS).read_bytes())
            found = {name: tuple(map(float, tensors[name])) for name in ("mean", "scale", "weights")}
            clip = float(tensors["clip"][0])
        except (OSError, ValueError, KeyError, IndexError, TypeError, SafetensorError) as error:
            raise Invalid(f"is no reward model: {error}", field="reward", reason="BAD_MODEL") from error
        if about.get("feature_set") != FEATURE_SET or tuple(about.get("features", ())) != NAMES:
            raise Invalid(
                f"was learned from the features {about.get('feature_set')}; here are {FEATURE_SET}",
                field="reward",
                reason="BAD_MODEL",
            )
        return cls(**found, clip=clip, version=version)

    def save(self, folder: Path) -> None:
        """Write reward.json and model.safetensors; the same model, the same bytes."""
        about = {
            "format": "safetensors",
            "algorithm": "bradley-terry",
            "feature_set": FEATURE_SET,
            "features": list(NAMES),
        }
        (folder / _ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        tensors = {name: np.array(getattr(self, name)) for name in ("mean", "scale", "weights")}
        (folder / _TENSORS).write_bytes(save({**tensors, "clip": np.array([self.clip])}))


def best_of(model: RewardModel, question: str, passages: Sequence[str], answers: Sequence[str]) -> int:
    """The place of the best answer; of equals the first. Raises Invalid for none."""
    if not answers:
        raise Invalid("is empty", field="answers")
    scores = [model.score(Candidate(question=question, passages=passages, answer=answer)) for answer in answers]
    return max(range(len(answers)), key=lambda place: (scores[place], -place))
