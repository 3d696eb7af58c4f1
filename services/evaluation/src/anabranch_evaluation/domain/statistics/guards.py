"""Guards: bounds on harm that hold at every look.

Means: the confidence sequence of their difference. Ratios: log of the ratio, its bounds from each arm's own standard
errors by MOVER (Zou and Donner 2008): low = r - c sqrt(l_t^2 + u_c^2), with c the sequence's boundary. The spread of a
quantile is that of order statistics one standard error of the share away (Woodruff 1952), to either side by itself, as
latency leans to the right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from anabranch_evaluation.domain.statistics.anytime import boundary, confidence_sequence
from anabranch_evaluation.domain.statistics.samples import Floats, Sample

ALPHA = 0.01  # one-sided: a guard that stops an arm for nothing costs an experiment
TUNED_TO = 1_000
_FEWEST = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardReading:
    """A guard now: what was measured (a ratio or a loss), its one-sided lower bound, whether that is past the limit."""

    value: float
    low: float
    breached: bool
    reason: str


def mean_guard(
    control: Sample,
    treatment: Sample,
    *,
    max_loss: float,
    higher_is_better: bool = True,
    alpha: float = ALPHA,
    tuned_to: float = TUNED_TO,
    value_range: float = 1.0,
) -> GuardReading:
    """Breached when the loss (or the rise, where less is better) is shown to be above `max_loss`."""
    worse, better = (control, treatment) if higher_is_better else (treatment, control)
    interval = confidence_sequence(better, worse, alpha=2 * alpha, tuned_to=tuned_to, value_range=value_range)
    enough = min(control.count, treatment.count) >= _FEWEST
    breached = enough and interval.low > max_loss
    reason = f"loss {interval.difference:+.4f}, at least {interval.low:+.4f}, allowed {max_loss:+.4f}"
    return GuardReading(value=interval.difference, low=interval.low, breached=breached, reason=reason)


def quantile_ratio_guard(
    control: ArrayLike,
    treatment: ArrayLike,
    *,
    max_ratio: float,
    quantile: float = 0.95,
    alpha: float = ALPHA,
    tuned_to: float = TUNED_TO,
) -> GuardReading:
    """Breached when the ratio of the quantiles, treatment to control, is shown to be above `max_ratio`.

    Values must be above 0 (those that are not are taken as the least that is), and independent: give one a person
    (their mean or worst), not every answer of a few people.
    """
    first, second = _positive(control), _positive(treatment)
    if min(first.size, second.size) < max(_FEWEST, math.ceil(1.5 / min(quantile, 1 - quantile))):
        return _unknown(max_ratio)
    share = np.array([0.0, -1.0, 1.0])
    centre_0, _, up_0 = np.quantile(np.log(first), _around(quantile, share, first.size))
    centre_1, down_1, _ = np.quantile(np.log(second), _around(quantile, share, second.size))
    return _ratio(
        float(centre_1 - centre_0),
        math.hypot(up_0 - centre_0, centre_1 - down_1),
        (first.size, second.size),
        max_ratio=max_ratio,
        alpha=alpha,
        tuned_to=tuned_to,
    )


def mean_ratio_guard(
    control: ArrayLike, treatment: ArrayLike, *, max_ratio: float, alpha: float = ALPHA, tuned_to: float = TUNED_TO
) -> GuardReading:
    """Breached when the ratio of the means, treatment to control, is shown to be above `max_ratio`. Values from 0."""
    first, second = Sample.of(control), Sample.of(treatment)
    if min(first.count, second.count) < _FEWEST or first.mean <= 0 or second.mean <= 0:
        return _unknown(max_ratio)
    spread_0, spread_1 = (math.sqrt(sample.variance / sample.count) / sample.mean for sample in (first, second))
    ratio = math.log(second.mean / first.mean)
    return _ratio(
        ratio,
        math.hypot(spread_0, spread_1),
        (first.count, second.count),
        max_ratio=max_ratio,
        alpha=alpha,
        tuned_to=tuned_to,
    )


def _positive(values: ArrayLike) -> Floats:
    """Values fit for a logarithm."""
    kept = np.asarray(values, dtype=np.float64).ravel()
    return np.maximum(kept[np.isfinite(kept)], np.finfo(np.float64).tiny)


def _around(quantile: float, errors: Floats, count: int) -> Floats:
    """The quantile, and those the given number of standard errors of the share away."""
    return np.clip(quantile + errors * math.sqrt(quantile * (1 - quantile) / count), 0.0, 1.0)


def _unknown(max_ratio: float) -> GuardReading:
    """Too little to say anything."""
    return GuardReading(value=1.0, low=0.0, breached=False, reason=f"too few values, allowed {max_ratio:.3f}")


def _ratio(
    ratio: float, spread: float, counts: tuple[int, int], *, max_ratio: float, alpha: float, tuned_to: float
) -> GuardReading:
    """Bounds of a log ratio by MOVER at the boundary of a confidence sequence."""
    time = 2 / (1 / counts[0] + 1 / counts[1]) / tuned_to
    low = ratio - float(boundary(time, 2 * alpha)) * spread
    value, bound = math.exp(ratio), math.exp(low)
    reason = f"ratio {value:.3f}, at least {bound:.3f}, allowed {max_ratio:.3f}"
    return GuardReading(value=value, low=bound, breached=bound > max_ratio, reason=reason)
