"""Bootstrap of a mean, the same for equal values in any order.

Values are sorted before they are drawn from, and the generator is seeded by the caller: no order of questions, of
partitions or of workers changes a bit of the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri  # type: ignore[import-untyped] # scipy carries no types

from anabranch_evaluation.domain.statistics.samples import Floats

RESAMPLES = 2_000
_AT_ONCE = 2_000_000  # draws held in memory at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanInterval:
    """A mean with its two-sided bootstrap interval."""

    mean: float
    low: float
    high: float
    count: int


def mean_interval(values: ArrayLike, *, level: float = 0.95, seed: int = 0, resamples: int = RESAMPLES) -> MeanInterval:
    """Mean with its BCa interval (Efron 1987, "Better bootstrap confidence intervals").

    Bias z0 = Phi^-1(share of resampled means below the mean), acceleration a = sum(d^3) / (6 sum(d^2)^1.5) with d the
    jackknife's deviations. No value: all 0. One value, or equal values: the interval is the point.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if not ordered.size:
        return MeanInterval(mean=0.0, low=0.0, high=0.0, count=0)
    mean = float(ordered.mean())
    if ordered[0] == ordered[-1]:
        return MeanInterval(mean=mean, low=mean, high=mean, count=int(ordered.size))
    means, _ = resample(ordered, seed=seed, resamples=resamples)
    below = float((means < mean).mean() + (means == mean).mean() / 2)
    bias = float(ndtri(min(max(below, 1 / (2 * resamples)), 1 - 1 / (2 * resamples))))
    deviation = ordered - mean  # of the jackknife, up to a factor that cancels
    acceleration = float((deviation**3).sum() / (6 * (deviation**2).sum() ** 1.5))
    tail = ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    shares = ndtr(bias + (bias + tail) / (1 - acceleration * (bias + tail)))
    low, high = np.quantile(means, shares)
    return MeanInterval(mean=mean, low=float(low), high=float(high), count=int(ordered.size))


def resample(ordered: Floats, *, seed: int, resamples: int) -> tuple[Floats, Floats]:
    """Means and standard errors of resamples drawn with replacement."""
    generator = np.random.default_rng(seed)
    size = ordered.size
    means, errors = np.empty(resamples), np.empty(resamples)
    step = max(1, _AT_ONCE // size)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = ordered[generator.integers(0, size, size=(stop - start, size))]
        means[start:stop] = drawn.mean(axis=1)
        errors[start:stop] = drawn.std(axis=1, ddof=min(1, size - 1)) / np.sqrt(size)
    return means, errors
