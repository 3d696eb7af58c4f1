"""Small trees over the features, as JSON; trained by `make guard-models`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final, TypeAlias

from anabranch_faults import Invalid
from anabranch_grounding import SCORER_VERSION
from anabranch_guardrails.adapters.grounded.features import NAMES

__all__ = ["Head", "packaged"]

Tree: TypeAlias = float | tuple[int, float, "Tree", "Tree"]
_FORMAT: Final = "trees-1"
_DEEPEST: Final = 32
_SURE: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The trees, what is added to their sum, and what names them."""

    version: str
    bias: float
    trees: Sequence[Tree]

    def borne_out(self, found: Mapping[str, float]) -> float:
        """How surely the passages bear the answer out, 0 to 1; 0.5 is the threshold of the head's card."""
        values = [found[name] for name in NAMES]
        total = math.fsum((self.bias, *(_value(tree, values) for tree in self.trees)))
        return 1.0 / (1.0 + math.exp(-min(max(total, -_SURE), _SURE)))


def read(text: str) -> Head:
    """A head from its JSON. Raises Invalid for one of other features, of another scorer, or none at all."""
    given = json.loads(text)
    if given.get("format") != _FORMAT or given.get("features") != list(NAMES):
        raise Invalid("is no head over these features", field="groundedness.json")
    if given.get("scorer") != SCORER_VERSION:
        raise Invalid(f"was trained on another scorer than {SCORER_VERSION}", field="groundedness.json")
    return Head(
        version=sha256(text.encode()).hexdigest()[:12],
        bias=float(given["bias"]),
        trees=tuple(_tree(tree, 0) for tree in given["trees"]),
    )


@lru_cache(maxsize=1)
def packaged() -> Head:
    """The head that comes with this build."""
    return read(files("anabranch_guardrails").joinpath("models", "groundedness.json").read_text("utf-8"))


def _tree(given: Any, depth: int) -> Tree:
    if isinstance(given, int | float):
        return float(given)
    feature, threshold, left, right = given
    if not 0 <= feature < len(NAMES) or depth > _DEEPEST:
        raise Invalid("holds a tree that cannot be read", field="groundedness.json")
    return int(feature), float(threshold), _tree(left, depth + 1), _tree(right, depth + 1)


def _value(tree: Tree, values: Sequence[float]) -> float:
    while isinstance(tree, tuple):
        tree = tree[2] if values[tree[0]] <= tree[1] else tree[3]
    return tree
