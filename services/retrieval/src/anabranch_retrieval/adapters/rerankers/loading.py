"""From the files of a verified artifact to a model that scores. No pickles: safetensors, or LightGBM's text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anabranch_faults import Invalid
from anabranch_retrieval.domain import FEATURE_SET, FEATURES, Reranker

_DESCRIPTION: Final = "reranker.json"
_MAX_DESCRIPTION: Final = 1 << 20
_PLACE: Final = FEATURES.index("reciprocal_rank")
_FARTHEST: Final = 1e-6
"""Least reciprocal of a place: nothing is searched so deep."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearReranker:
    """((x - mean) / scale, clipped) @ weights + bias, over the columns it names."""

    version: str
    columns: NDArray[np.intp]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: float
    clip: float

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """As the protocol says."""
        standard = (features[:, self.columns].astype(np.float64) - self.mean) / self.scale
        scores: NDArray[np.float64] = np.clip(standard, -self.clip, self.clip) @ self.weights + self.bias
        return scores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreeReranker:
    """Trees of LightGBM over the columns it names."""

    version: str
    columns: NDArray[np.intp]
    booster: Any

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """As the protocol says."""
        rows = np.ascontiguousarray(features[:, self.columns], dtype=np.float64)
        # One thread: fifty rows are done before others have woken up.
        scores: NDArray[np.float64] = self.booster.predict(rows, raw_score=True, num_threads=1)
        return scores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShallowReranker:
    """Another one that moves only the first `depth` candidates of the search's order; the others stay behind them."""

    inner: Reranker
    depth: int

    @property
    def version(self) -> str:
        """As the protocol says."""
        return self.inner.version

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """As the protocol says."""
        scores = self.inner.score(features)
        places = np.rint(1.0 / np.maximum(features[:, _PLACE].astype(np.float64), _FARTHEST))
        beyond = places > self.depth
        least = float(scores[~beyond].min()) if not beyond.all() else 0.0
        return np.asarray(np.where(beyond, least - (places - self.depth), scores))


def load(version: str, folder: Path) -> Reranker:
    """The model of a verified folder. Blocks; the first LightGBM model takes seconds (the library is loaded then).

    Raises Invalid (UNSUITABLE) for one that this service cannot apply: another feature set, features it does not
    compute, tensors that do not fit, numbers that are none.
    """
    try:
        return _load(version, folder)
    except Invalid:
        raise
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise Invalid(f"{version}: cannot be read ({error!r})", reason="UNSUITABLE") from error


def _load(version: str, folder: Path) -> Reranker:
    description = folder / _DESCRIPTION
    if not description.is_file() or description.stat().st_size > _MAX_DESCRIPTION:
        raise _unsuitable(version, f"has no {_DESCRIPTION}, or too large a one")
    said = json.loads(description.read_text(encoding="utf-8"))
    if said["feature_set"] != FEATURE_SET:
        raise _unsuitable(version, f"wants the feature set {said['feature_set']!r}, and {FEATURE_SET} is computed")
    names = said["features"]
    if not names or len(set(names)) != len(names) or not set(names) <= set(FEATURES):
        raise _unsuitable(version, f"wants features that {FEATURE_SET} does not have, or none, or one twice")
    columns = np.array([FEATURES.index(name) for name in names], dtype=np.intp)
    depth = said.get("depth", 0)
    if not isinstance(depth, int) or depth < 0:
        raise _unsuitable(version, f"moves the first {depth!r} candidates, which is no number of them")
    model: Reranker
    if said["format"] == "safetensors":
        model = _linear(version, folder, columns)
    elif said["format"] == "lightgbm":
        model = _trees(version, folder, columns)
    else:
        raise _unsuitable(version, f"is of a format not known here: {said['format']!r}")
    return ShallowReranker(inner=model, depth=depth) if depth else model


def _linear(version: str, folder: Path, columns: NDArray[np.intp]) -> LinearReranker:
    from safetensors import SafetensorError  # noqa: PLC0415  with the next one
    from safetensors.numpy import load_file  # noqa: PLC0415  only where there is a reranker

    try:
        tensors = load_file(folder / "model.safetensors")
    except SafetensorError as error:
        raise _unsuitable(version, f"is no safetensors file ({error})") from error
    found: dict[str, NDArray[np.float64]] = {}
    for name, size in (("mean", columns.size), ("scale", columns.size), ("weights", columns.size), ("bias", 1)):
        tensor = np.asarray(tensors[name], dtype=np.float64)
        if tensor.shape != (size,) or not np.isfinite(tensor).all():
            raise _unsuitable(version, f"{name}: not {size} finite numbers")
        found[name] = tensor
    clip = float(tensors["clip"][0]) if "clip" in tensors else float("inf")
    if not (found["scale"] > 0).all() or not clip > 0:
        raise _unsuitable(version, "scale and clip must be above 0")
    return LinearReranker(
        version=version,
        columns=columns,
        mean=found["mean"],
        scale=found["scale"],
        weights=found["weights"],
        bias=float(found["bias"][0]),
        clip=clip,
    )


def _trees(version: str, folder: Path, columns: NDArray[np.intp]) -> TreeReranker:
    import lightgbm  # type: ignore[import-untyped, unused-ignore]  # noqa: PLC0415  ships no types; takes seconds

    text = (folder / "model.txt").read_text(encoding="utf-8")
    try:
        booster = lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise _unsuitable(version, f"is no model of LightGBM ({error})") from error
    if booster.num_feature() != columns.size:
        raise _unsuitable(version, f"has {booster.num_feature()} features, and {columns.size} are named")
    if booster.num_model_per_iteration() != 1:
        raise _unsuitable(version, "gives more than one score")
    model = TreeReranker(version=version, columns=columns, booster=booster)
    model.score(np.zeros((1, len(FEATURES)), dtype=np.float32))  # its first call makes what the others use
    return model


def _unsuitable(version: str, problem: str) -> Invalid:
    return Invalid(f"{version}: {problem}", reason="UNSUITABLE")
