"""What sentences mean: vectors whose cosines come out the same, bit for bit, in whatever company they are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.int8]
"""A unit vector times 127."""
_PLACES: Final = 6


def quantised(vector: NDArray[np.float32]) -> Vector:
    """A unit vector in 8 bits a number."""
    whole: Vector = np.rint(np.clip(vector, -1.0, 1.0) * 127).astype(np.int8)
    return whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """Vectors by text, all of one embedding version."""

    version: str
    vectors: Mapping[str, Vector]

    def cosines(self, text: str, others: Sequence[str]) -> list[float]:
        """The cosine of the text with each of the others, 0 to 1; 0 where either has no vector."""
        own = self.vectors.get(text)
        found = [0.0] * len(others)
        known = [(place, self.vectors[other]) for place, other in enumerate(others) if other in self.vectors]
        if own is None or not known:
            return found
        # Products of 8-bit numbers sum up to whole numbers below 2 to the 24 for vectors of up to 1,040 numbers, which
        # 32-bit floats hold exactly, whatever order they are added in; longer vectors are added in 64 bits.
        kind = np.float32 if own.size <= 1_024 else np.float64  # noqa: PLR2004  the bound of the comment above
        rows: NDArray[np.floating[Any]] = np.stack([vector for _, vector in known]).astype(kind)
        dots = (rows @ own.astype(kind)).astype(np.float64)
        norms = np.sqrt((rows * rows).sum(axis=1, dtype=np.float64)) * float(
            np.sqrt(np.square(own, dtype=np.int64).sum())
        )
        for (place, _), dot, norm in zip(known, dots.tolist(), norms.tolist(), strict=True):
            found[place] = round(min(max(dot / norm, 0.0), 1.0), _PLACES) if norm else 0.0
        return found
