"""Weights of a logistic model as people's noisy labels leave them: their mean, not their likeliest value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from anabranch_training.adapters.learners.table import Floats, Ints

__all__ = ["Problem", "likeliest", "mean_above_zero"]

_LOOKS: Final = 60
_STILL: Final = 1e-8
_SHORTEST: Final = 1e-4
"""A step is halved until it helps, down to this part of it."""
_FAR: Final = -25.0
"""Standard deviations below zero from where on the normal's tail is taken from its series: it would vanish."""
_PASSES: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Rows sorted by question. `pull`: precision of each weight about 0; `levels`: of the questions' own levels."""

    design: Floats
    labels: Floats
    weights: Floats
    questions: Ints
    pull: Floats
    flip: float
    levels: float

    def around(self, found: Floats, level: Floats) -> _Around:
        """The negative log posterior about a place."""
        sure = 1 / (1 + np.exp(-np.clip(self.design @ found + level[self.questions], -35, 35)))
        told = np.clip(self.flip + (1 - 2 * self.flip) * sure, 1e-9, 1 - 1e-9)
        value = -(self.weights * (self.labels * np.log(told) + (1 - self.labels) * np.log(1 - told))).sum()
        value += 0.5 * self.pull @ found**2 + 0.5 * self.levels * level @ level
        steep = (1 - 2 * self.flip) * sure * (1 - sure)
        return _Around(
            value=float(value),
            slope=np.asarray(self.weights * (told - self.labels) / (told * (1 - told)) * steep),
            curve=np.asarray(self.weights * steep**2 / (told * (1 - told))),
        )

    @property
    def starts(self) -> Ints:
        """Where each question's rows begin."""
        return np.flatnonzero(np.diff(self.questions, prepend=-1)).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Around:
    """Value; slope and expected curvature by row."""

    value: float
    slope: Floats
    curve: Floats


def likeliest(problem: Problem, start: Floats) -> tuple[Floats, Floats]:
    """The likeliest weights, and the precision of their normal approximation; the questions' levels are integrated out.

    Fisher scoring: the levels are eliminated from each step, which therefore costs one pass over the rows.
    """
    found, level = start.copy(), np.zeros(len(problem.starts))
    here = problem.around(found, level)
    for _ in range(_LOOKS):
        step, aside, precision = _step(problem, here, found, level)
        part = 1.0
        while (after := problem.around(found - part * step, level - part * aside)).value > here.value:
            part /= 2
            if part < _SHORTEST:
                return found, precision
        gained = here.value - after.value
        found, level, here = found - part * step, level - part * aside, after
        if gained <= _STILL * abs(here.value):
            break
    return found, precision


def _step(problem: Problem, here: _Around, found: Floats, level: Floats) -> tuple[Floats, Floats, Floats]:
    """A Newton step back, of the weights and of the levels; the weights' precision."""
    starts = problem.starts
    by_level = np.add.reduceat(here.slope, starts) + problem.levels * level
    of_level = np.add.reduceat(here.curve, starts) + problem.levels
    weighed = problem.design * here.curve[:, None]
    mixed = np.add.reduceat(weighed, starts, axis=0)
    precision = weighed.T @ problem.design + np.diag(problem.pull) - mixed.T @ (mixed / of_level[:, None])
    slope = problem.design.T @ here.slope + problem.pull * found
    step = np.linalg.solve(precision, slope - mixed.T @ (by_level / of_level))
    return np.asarray(step), np.asarray((by_level - mixed @ step) / of_level), np.asarray(precision)


def mean_above_zero(mean: Floats, precision: Floats, positive: npt.NDArray[Any]) -> Floats:
    """The mean of a normal distribution of which only the part is left where the `positive` ones are above 0.

    By expectation propagation: each bound is stood for by a normal factor with the moments that the bound leaves.
    """
    cover = np.linalg.inv(precision)
    middle = mean.copy()
    drawn = precision @ mean
    sharp, pushed = np.zeros(len(mean)), np.zeros(len(mean))
    for _ in range(_PASSES):
        before = middle.copy()
        for one in np.flatnonzero(positive).tolist():
            own = cover[one, one]
            spread = 1 / (1 / own - sharp[one])
            centre = spread * (middle[one] / own - pushed[one])
            left, narrow = _above_zero(centre, spread)
            sharper = 1 / narrow - 1 / spread
            change = sharper - sharp[one]
            sharp[one], pushed[one] = sharper, left / narrow - centre / spread
            column = cover[:, one].copy()
            cover -= np.outer(column, column) * (change / (1 + change * column[one]))
            middle = cover @ (drawn + pushed)
        if float(np.abs(middle - before).max()) < _STILL:
            break
    # What is left of an approximation may lie a hair below the bound.
    return np.where(positive, np.maximum(middle, 0.0), middle)


def _above_zero(mean: float, variance: float) -> tuple[float, float]:
    """Mean and variance of the part of a normal distribution that is above 0."""
    deviation = math.sqrt(variance)
    place = mean / deviation
    if place < _FAR:
        ratio = -place / (1 - place**-2 + 3 * place**-4)
    else:
        ratio = math.exp(-0.5 * place * place) / math.sqrt(2 * math.pi) / (0.5 * math.erfc(-place / math.sqrt(2)))
    # However sure a bound is, what it leaves has some width.
    return mean + deviation * ratio, variance * max(1 - ratio * (ratio + place), 1e-6)
