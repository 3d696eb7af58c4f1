r"""Confidence sequences: intervals that hold at every look at once, however often one looks.

The standardised score S of a difference of two means behaves, in the time of its information t, like a Brownian motion
with drift (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas 2021, "Time-uniform central limit theory and asymptotic
confidence sequences", arXiv:2103.06476). For a drift m drawn from any prior, the mixture of exp(m S - m^2 t / 2) is a
martingale from 1 under the null, so by Ville's inequality P(it ever reaches 1 / alpha) <= alpha. The prior here is half
N(PEAK, WIDTH^2), half N(-PEAK, WIDTH^2):

    M(S, t) = v^(-1/2) exp((w^2 S^2 - p^2 t) / (2 v)) cosh(p S / v),   v = 1 + w^2 t

which is Robbins' normal mixture (1970) for p = 0. A prior that stays away from 0 spends less of alpha on effects
too small to be seen by the time that one tunes to (t = 1), and has its boundary there at z = 2.92 rather than 3.03;
its normal tails still find any effect in the end. PEAK and WIDTH were chosen by simulation for power at t = 1 and
before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from anabranch_evaluation.domain.statistics.samples import Floats, Interval, Sample, squared_error

PEAK = 3.0
WIDTH = 1.5
TUNED_TO = 5_000  # people an arm at which the sequence is tightest, where nothing better is known
_NEWTON_STEPS = 8


def log_mixture(score: ArrayLike, time: ArrayLike, *, peak: float = PEAK, width: float = WIDTH) -> Floats:
    """Log M(S, t): the logarithm of the evidence against no difference. Valid at all looks at once."""
    s, t = np.abs(np.asarray(score, dtype=np.float64)), np.asarray(time, dtype=np.float64)
    v = 1 + width**2 * t
    tilt = peak * s / v
    log_cosh = tilt + np.log1p(np.exp(-2 * tilt)) - np.log(2)
    return np.asarray(-np.log(v) / 2 + (width**2 * s**2 - peak**2 * t) / (2 * v) + log_cosh, dtype=np.float64)


def boundary(time: ArrayLike, alpha: float, *, peak: float = PEAK, width: float = WIDTH) -> Floats:
    """How many standard errors a difference must pass at this time (1: the one tuned to); two-sided alpha.

    Solves log M(z sqrt(t), t) = log(1 / alpha) by Newton's method. log M is convex and grows with S > 0; one starts at
    the root of a quadratic below it, so that the steps come down to the root without passing it.
    """
    t = np.asarray(time, dtype=np.float64)
    v = 1 + width**2 * t
    level = np.log(v) / 2 + peak**2 * t / (2 * v) + np.log(2 / alpha)
    s = (np.sqrt(peak**2 + 2 * width**2 * v * level) - peak) / width**2
    for _ in range(_NEWTON_STEPS):
        slope = width**2 * s / v + peak / v * np.tanh(peak * s / v)
        s = s - (log_mixture(s, t, peak=peak, width=width) + np.log(alpha)) / slope
    return np.asarray(s / np.sqrt(t), dtype=np.float64)


def relative_time(
    count: tuple[ArrayLike, ArrayLike],
    variance: tuple[ArrayLike, ArrayLike],
    *,
    tuned_to: float,
    value_range: float = 1.0,
) -> tuple[Floats, Floats]:
    """Information on a difference, as a share of what `tuned_to` people an arm would give; and its standard error."""
    (n0, n1), (v0, v1) = count, variance
    control, treatment = squared_error(n0, v0, value_range), squared_error(n1, v1, value_range)
    error = control + treatment
    tuned = (control * np.asarray(n0, dtype=np.float64) + treatment * np.asarray(n1, dtype=np.float64)) / tuned_to
    return np.asarray(tuned / error, dtype=np.float64), np.sqrt(error)


def confidence_sequence(
    control: Sample, treatment: Sample, *, alpha: float = 0.05, tuned_to: float = TUNED_TO, value_range: float = 1.0
) -> Interval:
    """The difference treatment - control with bounds that hold at all looks at once with probability 1 - alpha.

    Variances may differ. `value_range`: largest less least value that is possible. `p_value` is 1 / M, valid at all
    looks. Without values in both arms nothing is known: bounds are infinite.
    """
    difference = treatment.mean - control.mean
    if not control.count or not treatment.count:
        return Interval(difference=0.0, low=-np.inf, high=np.inf, p_value=1.0)
    time, error = relative_time(
        (control.count, treatment.count),
        (control.variance, treatment.variance),
        tuned_to=tuned_to,
        value_range=value_range,
    )
    reach = float(boundary(time, alpha) * error)
    evidence = float(log_mixture(difference / error * np.sqrt(time), time))
    return Interval(
        difference=difference,
        low=difference - reach,
        high=difference + reach,
        p_value=float(np.exp(-max(evidence, 0.0))),
    )
