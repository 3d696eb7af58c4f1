"""What an arm has shown, and how sure one can be of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Values of one arm in three numbers, one value a person.

    `variance` is the unbiased sample variance, sum((x - mean)^2) / (count - 1); 0 where count < 2.
    """

    count: int
    mean: float
    variance: float

    def __post_init__(self) -> None:
        """Refuses what no values can have given."""
        if self.count < 0 or not math.isfinite(self.mean) or not math.isfinite(self.variance) or self.variance < 0:
            raise ValueError(f"no sample: {self.count} values, mean {self.mean}, variance {self.variance}")

    @classmethod
    def of(cls, values: ArrayLike) -> Sample:
        """Sums up one value a person, the same in any order."""
        ordered = np.sort(np.asarray(values, dtype=np.float64).ravel())
        if not ordered.size:
            return cls(count=0, mean=0.0, variance=0.0)
        variance = float(ordered.var(ddof=1)) if ordered.size > 1 else 0.0
        return cls(count=int(ordered.size), mean=float(ordered.mean()), variance=variance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A difference with the bounds it is held to lie between, and the p-value of there being none (two-sided)."""

    difference: float
    low: float
    high: float
    p_value: float


def squared_error(count: ArrayLike, variance: ArrayLike, value_range: float = 1.0) -> Floats:
    """Squared standard error of a mean, with one more observation half the range away from the mean.

    ((n - 1) s^2 + (range / 2)^2) / n^2. The added observation keeps the first equal values from looking certain; its
    weight falls as 1/n.
    """
    n = np.asarray(count, dtype=np.float64)
    spread = (n - 1) * np.asarray(variance, dtype=np.float64) + value_range**2 / 4
    return np.asarray(spread / n**2, dtype=np.float64)
