"""CUPED: what was known of people before an experiment takes noise out of it.

Deng, Xu, Kohavi and Walker (2013), "Improving the sensitivity of online controlled experiments by utilizing
pre-experiment data".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from anabranch_evaluation.domain.statistics.samples import Floats


@dataclass(frozen=True, slots=True)
class Adjusted:
    """Values with the covariate's part taken out: the same mean over all arms together, less variance.

    `theta`: the slope that was used. `variance_cut`: the share of the variance that is gone, rho^2 for a covariate
    known of all.
    """

    values: Floats
    theta: float
    variance_cut: float


def cuped(values: ArrayLike, covariate: ArrayLike) -> Adjusted:
    """Y - theta (x - mean x), theta = cov(x, y) / var(x), over the people of all arms together.

    A covariate that is not known is NaN and moves nothing; one that is constant, or known of fewer than three, changes
    nothing. The covariate must have been known before exposure, else the difference itself is adjusted away.
    """
    y, x = np.asarray(values, dtype=np.float64), np.asarray(covariate, dtype=np.float64)
    if y.ndim != 1 or x.shape != y.shape:
        raise ValueError("values and covariates are not pairs")
    known = np.isfinite(x)
    fewest = 3
    if known.sum() < fewest or not np.ptp(x[known]) or not np.ptp(y):
        return Adjusted(y.copy(), 0.0, 0.0)
    centred = np.where(known, x - x[known].mean(), 0.0)
    seen = centred[known]
    theta = float(seen @ (y[known] - y[known].mean()) / (seen @ seen))
    adjusted = y - theta * centred
    return Adjusted(adjusted, theta, float(1 - adjusted.var() / y.var()))
