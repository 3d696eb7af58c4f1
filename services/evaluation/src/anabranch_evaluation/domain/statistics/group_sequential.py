"""Group-sequential tests: a known horizon, a few looks, almost the power of one look at the end.

Lan and DeMets (1983), "Discrete sequential boundaries for clinical trials", with their O'Brien-Fleming type of
spending; the boundaries by the recursive integration of Armitage, McPherson and Rowe (1969), as in Jennison and
Turnbull (2000), chapter 19. The intervals are repeated confidence intervals (Jennison and Turnbull 1989): estimate +-
boundary * standard error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq  # type: ignore[import-untyped] # scipy carries no types
from scipy.special import ndtr, ndtri  # type: ignore[import-untyped] # scipy carries no types

from anabranch_evaluation.domain.statistics.samples import Floats, Interval, Sample, squared_error

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(256)
_FARTHEST = 8.0  # standard errors; beyond it lies 1.2e-15, less than the integration can tell


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSequential:
    """A two-sided test at `alpha` with `looks` looks, planned at equal steps of information."""

    alpha: float = 0.05
    looks: int = 10

    def __post_init__(self) -> None:
        """Refuses a test that is none."""
        if not 0 < self.alpha < 1 or self.looks < 1:
            raise ValueError(f"no test: alpha {self.alpha}, {self.looks} looks")

    def planned(self) -> tuple[float, ...]:
        """The shares of the horizon at which to look."""
        return tuple((k + 1) / self.looks for k in range(self.looks))

    def due(self, fraction: float, taken: Sequence[float] = ()) -> bool:
        """Whether a planned look has been reached at this share of the horizon since the last one taken."""
        last = taken[-1] if taken else 0.0
        slack = 1e-9
        return math.floor(min(fraction, 1.0) * self.looks + slack) > math.floor(min(last, 1.0) * self.looks + slack)

    def spent(self, fraction: float) -> float:
        """Error of both sides together spent by this share of the horizon: 4 (1 - Phi(z(alpha/4) / sqrt(t)))."""
        return float(4 * ndtr(ndtri(self.alpha / 4) / math.sqrt(min(fraction, 1.0)))) if fraction > 0 else 0.0

    def boundaries(self, fractions: Sequence[float] | None = None) -> tuple[float, ...]:
        """How many standard errors a difference must pass at each look taken; default: the planned looks.

        Looks may be taken at other shares than planned; what counts is what was taken. Shares must grow; the last may
        pass 1, where everything is spent.
        """
        return _boundaries(self.alpha, tuple(float(f) for f in (self.planned() if fractions is None else fractions)))

    def crossing(self, drift: float = 0.0) -> tuple[float, ...]:
        """Probability of having crossed by each planned look, where the expected z at the horizon is `drift`."""
        density: _Density | None = None
        crossed, out = 0.0, []
        for time, bound in zip(self.planned(), self.boundaries(), strict=True):
            crossed += _beyond(density, time, bound, drift)
            density = _step(density, time, bound, drift)
            out.append(crossed)
        return tuple(out)

    def interval(
        self, control: Sample, treatment: Sample, *, fractions: Sequence[float], value_range: float = 1.0
    ) -> Interval:
        """Repeated confidence interval of treatment - control at the last of the looks taken.

        `fractions`: the shares of the horizon at every look so far, this one included. `p_value` is that of a single
        look and only for people: decide by the bounds.
        """
        difference = treatment.mean - control.mean
        if not control.count or not treatment.count:
            return Interval(difference=0.0, low=-np.inf, high=np.inf, p_value=1.0)
        error = math.sqrt(
            squared_error(control.count, control.variance, value_range)
            + squared_error(treatment.count, treatment.variance, value_range)
        )
        reach = self.boundaries(fractions)[-1] * error
        return Interval(
            difference=difference,
            low=difference - reach,
            high=difference + reach,
            p_value=float(2 * ndtr(-abs(difference) / error)),
        )


@dataclass(frozen=True, slots=True)
class _Density:
    """Where the score is at a time, of what has not crossed: weights at the nodes of a Gauss-Legendre rule."""

    time: float
    at: Floats
    weight: Floats


def _beyond(density: _Density | None, time: float, bound: float, drift: float) -> float:
    """Probability of being first outside +-bound standard errors at this time."""
    edge = bound * math.sqrt(time)
    if density is None:
        mean, step, weight = np.zeros(1), time, np.ones(1)
    else:
        mean, step, weight = density.at, time - density.time, density.weight
    centre, deviation = mean + drift * step, math.sqrt(step)
    return float(weight @ (ndtr((centre - edge) / deviation) + ndtr((-edge - centre) / deviation)))


def _step(density: _Density | None, time: float, bound: float, drift: float) -> _Density:
    """What has not crossed by this time."""
    edge = bound * math.sqrt(time)
    at, rule = edge * _NODES, edge * _WEIGHTS
    if density is None:
        mean, step, weight = np.zeros(1), time, np.ones(1)
    else:
        mean, step, weight = density.at, time - density.time, density.weight
    deviation = math.sqrt(step)
    z = (at[:, None] - mean[None, :] - drift * step) / deviation
    return _Density(time, at, rule * (np.exp(-(z**2) / 2) @ weight) / (deviation * math.sqrt(2 * math.pi)))


@lru_cache(maxsize=256)
def _boundaries(alpha: float, fractions: tuple[float, ...]) -> tuple[float, ...]:
    """One boundary after another, each using up what may have been spent by its look."""
    test = GroupSequential(alpha=alpha, looks=1)
    density: _Density | None = None
    spent, before, out = 0.0, 0.0, []
    for fraction in fractions:
        time = min(fraction, 1.0)
        if time <= before:
            raise ValueError(f"looks must be at growing shares of the horizon up to 1: {fractions}")
        allowed = test.spent(time) - spent

        def excess(
            bound: float, time: float = time, allowed: float = allowed, density: _Density | None = density
        ) -> float:
            return _beyond(density, time, bound, 0.0) - allowed

        bound = _FARTHEST if excess(_FARTHEST) >= 0 else float(brentq(excess, 0.0, _FARTHEST, xtol=1e-10))
        spent += allowed
        density = _step(density, time, bound, 0.0)
        before = time
        out.append(bound)
    return tuple(out)
