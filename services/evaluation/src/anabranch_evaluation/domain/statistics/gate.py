"""Gates: a candidate against what serves now, paired by question, one look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri  # type: ignore[import-untyped] # scipy carries no types

from anabranch_evaluation.domain.statistics.bootstrap import resample

RESAMPLES = 5_000
POWER = 0.8
_FEWEST = 2


class GateMode(StrEnum):
    """What a gate wants to see."""

    IMPROVEMENT = "improvement"
    """Pass only with evidence: the lower bound is above -margin."""
    NO_REGRESSION = "no_regression"
    """Fail only with evidence: the upper bound is below -margin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateStatistic:
    """What a gate saw. `low` and `high` are one-sided bounds at alpha each (together an interval of 1 - 2 alpha).

    `p_value`: IMPROVEMENT: of no candidate better than -margin giving this; NO_REGRESSION: of no candidate that keeps
    the margin giving this. `minimum_detectable_effect`: the loss seen with power 0.8, (z(1 - alpha) + z(0.8)) *
    standard error.
    """

    difference: float
    low: float
    high: float
    p_value: float
    minimum_detectable_effect: float
    passed: bool
    reason: str
    questions: int
    better: int
    worse: int


def paired_gate(
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    mode: GateMode,
    margin: float = 0.0,
    alpha: float = 0.05,
    detectable: float | None = None,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> GateStatistic:
    """Decides by a paired, studentised bootstrap (Efron and Tibshirani 1993, chapter 12) of the differences.

    With t* = (d* - d) / se* over resamples: low = d - se q(1 - alpha), high = d - se q(alpha); the p-values are shares
    of the same t*, so that p < alpha and the bound say the same. Equal pairs give equal bits in any order, for the
    differences are sorted before they are drawn from. `ids`, where given, must name each question once. Raises
    ValueError for scores that are not pairs.
    """
    first, second = np.asarray(baseline, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or not np.isfinite(first).all() or not np.isfinite(second).all():
        raise ValueError("scores are not pairs of finite numbers")
    if ids is not None and (len(ids) != first.size or len(set(ids)) != len(ids)):
        raise ValueError("ids do not name each question once")
    differences = np.sort(second - first)
    size, better, worse = int(differences.size), int((differences > 0).sum()), int((differences < 0).sum())
    if size < _FEWEST:
        return GateStatistic(
            difference=float(differences.sum()),
            low=-math.inf,
            high=math.inf,
            p_value=1.0,
            minimum_detectable_effect=math.inf,
            passed=False,
            reason=f"{size} questions are too few to decide",
            questions=size,
            better=better,
            worse=worse,
        )
    difference, error = float(differences.mean()), float(differences.std(ddof=1) / math.sqrt(size))
    if differences[0] == differences[-1]:  # all alike: nothing to resample
        low = high = difference
        against = difference <= -margin if mode is GateMode.IMPROVEMENT else difference >= -margin
        p_value = 1.0 if against else 0.0
    else:
        means, errors = resample(differences, seed=seed, resamples=resamples)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.nan_to_num((means - difference) / errors, nan=0.0, posinf=np.inf, neginf=-np.inf)
        t.sort()
        # The order statistic that makes p <= alpha and the bound beyond -margin the same event.
        rank = max(math.ceil((1 - alpha) * (resamples + 1)) - 1, 0)
        top = float(t[rank]) if rank < resamples else math.inf
        bottom = float(t[resamples - 1 - rank]) if rank < resamples else -math.inf
        low, high = difference - error * top, difference - error * bottom
        observed = (difference + margin) / error
        beyond = int((t >= observed).sum() if mode is GateMode.IMPROVEMENT else (t <= observed).sum())
        p_value = (beyond + 1) / (resamples + 1)
    smallest = float(ndtri(1 - alpha) + ndtri(POWER)) * error
    passed, reason = _verdict(mode, margin=margin, low=low, high=high, smallest=smallest, detectable=detectable)
    return GateStatistic(
        difference=difference,
        low=low,
        high=high,
        p_value=p_value,
        minimum_detectable_effect=smallest,
        passed=passed,
        reason=reason,
        questions=size,
        better=better,
        worse=worse,
    )


def _verdict(
    mode: GateMode, *, margin: float, low: float, high: float, smallest: float, detectable: float | None
) -> tuple[bool, str]:
    """Whether it passes, and why, for people."""
    if detectable is not None and smallest > detectable:
        return False, f"undecided: sees losses from {smallest:.4f}, asked for {detectable:.4f}"
    if mode is GateMode.IMPROVEMENT:
        if low > -margin:
            return True, f"better: lower bound {low:+.4f} is above {-margin:+.4f}"
        return False, f"no evidence of a gain: lower bound {low:+.4f} is not above {-margin:+.4f}"
    if high < -margin:
        return False, f"worse: upper bound {high:+.4f} is below {-margin:+.4f}"
    return True, f"no evidence of a loss: upper bound {high:+.4f} is not below {-margin:+.4f}"
