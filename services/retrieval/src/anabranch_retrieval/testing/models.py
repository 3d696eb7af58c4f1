"""Rerankers as artifacts, for tests and measurements."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from anabranch_artifacts import ArtifactStore, Signer
from anabranch_retrieval.domain import FEATURE_SET, FEATURES


def write_linear(
    folder: Path, weights: dict[str, float], *, features: Sequence[str] = FEATURES, feature_set: str = FEATURE_SET
) -> Path:
    """The files of a linear reranker that weighs these features, the others 0."""
    count = len(features)
    _describe(folder, "safetensors", features, feature_set)
    save_file(
        {
            "mean": np.zeros(count),
            "scale": np.ones(count),
            "weights": np.array([weights.get(name, 0.0) for name in features]),
            "bias": np.zeros(1),
        },
        folder / "model.safetensors",
    )
    return folder


def write_trees(folder: Path, feature: str, *, trees: int = 20, features: Sequence[str] = FEATURES) -> Path:
    """The files of a LightGBM reranker that learned to go by one feature."""
    import lightgbm  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415  ships no types; takes seconds

    rows = np.random.default_rng(7).random((2_000, len(features)))
    data = lightgbm.Dataset(rows, rows[:, list(features).index(feature)])
    settings = {"verbosity": -1, "num_leaves": 15, "num_threads": 1, "seed": 7}
    booster = lightgbm.train(settings, data, num_boost_round=trees)
    _describe(folder, "lightgbm", features, FEATURE_SET)
    (folder / "model.txt").write_text(booster.model_to_string(), encoding="utf-8")
    return folder


def put(root: str, folder: Path, signer: Signer | None) -> str:
    """Store it; gives the version."""
    return ArtifactStore(root, public_key=None).put(folder, kind="reranker", signer=signer).version


def _describe(folder: Path, form: str, features: Sequence[str], feature_set: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    said = {"format": form, "algorithm": "made for a test", "feature_set": feature_set, "features": list(features)}
    (folder / "reranker.json").write_text(json.dumps(said), encoding="utf-8")
