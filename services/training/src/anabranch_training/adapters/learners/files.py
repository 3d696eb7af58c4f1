"""The files of an artifact of kind `reranker`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from anabranch_training.domain import LinearScore, TrainedReranker

__all__ = ["write_reranker"]


def write_reranker(model: TrainedReranker, folder: Path) -> None:
    """Writes reranker.json and model.safetensors or model.txt; the same model, the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    about: dict[str, object] = {
        "format": "safetensors" if isinstance(model.score, LinearScore) else "lightgbm",
        "algorithm": model.algorithm,
        "feature_set": model.feature_set,
        "features": list(model.features),
    }
    if model.depth:
        about["depth"] = model.depth
    (folder / "reranker.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    if isinstance(model.score, LinearScore):
        tensors = {
            "mean": np.array(model.score.mean),
            "scale": np.array(model.score.scale),
            "weights": np.array(model.score.weights),
            "bias": np.array([model.score.bias]),
            "clip": np.array([model.score.clip]),
        }
        (folder / "model.safetensors").write_bytes(save(tensors))
    else:
        (folder / "model.txt").write_text(model.score.text, encoding="utf-8")
