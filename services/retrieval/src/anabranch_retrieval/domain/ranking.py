"""Order by a reranker's scores."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Reranker(Protocol):
    """A model that scores candidates by their features."""

    @property
    def version(self) -> str:
        """Its name in the artifact store."""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """One score for each row of features (columns as FEATURES), more is better. Pure and quick: it may be called
        on an event loop.
        """  # noqa: D205  one paragraph


def order(scores: NDArray[np.float64]) -> list[int]:
    """Rows, best first; equal scores keep their order."""
    return [int(row) for row in np.argsort(-scores, kind="stable")]
