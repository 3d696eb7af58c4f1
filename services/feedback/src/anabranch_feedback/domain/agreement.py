"""How far raters agree beyond chance: Cohen's and Fleiss' kappa with their large-sample intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isnan, nan, sqrt
from statistics import NormalDist, mean
from typing import Final

_GOOD: Final = 4
_SCALE: Final = 5
_PAIR: Final = 2
_Z: Final = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """NaN where it is not defined. The interval covers 95 %."""

    kappa: float
    low: float
    high: float
    weighted: float
    answers: int
    raters: int


def agreement(stars: Mapping[str, Mapping[str, int]]) -> Agreement:
    """Of stars by answer, then rater; answers of one rater do not count."""
    judged = [marks for marks in stars.values() if len(marks) >= _PAIR]
    raters = sorted({rater for marks in judged for rater in marks})
    if len(raters) == _PAIR:
        first, second = raters
        kappa, error = cohen([(marks[first] >= _GOOD, marks[second] >= _GOOD) for marks in judged])
    else:
        kappa, error = fleiss([(sum(mark >= _GOOD for mark in marks.values()), len(marks)) for marks in judged])
    return Agreement(
        kappa=kappa,
        low=kappa - _Z * error,
        high=kappa + _Z * error,
        weighted=_weighted_of_pairs(judged, raters),
        answers=len(judged),
        raters=len(raters),
    )


def cohen(pairs: Sequence[tuple[bool, bool]]) -> tuple[float, float]:
    """Kappa of two raters and its standard error (Fleiss, Cohen and Everitt 1969)."""
    n = len(pairs)
    if n == 0:
        return nan, nan
    share = {(i, j): sum(pair == (i, j) for pair in pairs) / n for i in (False, True) for j in (False, True)}
    row = {i: share[i, False] + share[i, True] for i in (False, True)}
    column = {j: share[False, j] + share[True, j] for j in (False, True)}
    observed = share[False, False] + share[True, True]
    expected = sum(row[i] * column[i] for i in (False, True))
    if expected >= 1:
        return nan, nan
    kappa = (observed - expected) / (1 - expected)
    on = sum(share[i, i] * (1 - (row[i] + column[i]) * (1 - kappa)) ** 2 for i in (False, True))
    off = (1 - kappa) ** 2 * sum(
        share[i, j] * (column[i] + row[j]) ** 2 for i in (False, True) for j in (False, True) if i != j
    )
    variance = (on + off - (kappa - expected * (1 - kappa)) ** 2) / (n * (1 - expected) ** 2)
    return kappa, sqrt(max(0.0, variance))


def fleiss(items: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Kappa of (raters who said good, raters) and its standard error (Gwet 2014); raters may differ in number."""
    n = len(items)
    if n < _PAIR:
        return nan, nan
    share_good = mean(good / count for good, count in items)
    shares = (share_good, 1 - share_good)
    expected = sum(share * share for share in shares)
    if expected >= 1:
        return nan, nan
    agreed = [(good * (good - 1) + (c - good) * (c - good - 1)) / (c * (c - 1)) for good, c in items]
    kappa = (mean(agreed) - expected) / (1 - expected)
    # Each item's part: in what is seen, and in what chance would give.
    chance = [good / c * shares[0] + (c - good) / c * shares[1] for good, c in items]
    parts = [
        (seen - expected - 2 * (1 - kappa) * (guessed - expected)) / (1 - expected)
        for seen, guessed in zip(agreed, chance, strict=True)
    ]
    return kappa, sqrt(sum((part - kappa) ** 2 for part in parts) / (n * (n - 1)))


def weighted_cohen(pairs: Sequence[tuple[int, int]]) -> float:
    """Kappa of two raters' stars, a disagreement weighing as its square."""
    n = len(pairs)
    if n == 0:
        return nan
    observed = sum((one - other) ** 2 for one, other in pairs) / n
    ones = [sum(one == star for one, _ in pairs) / n for star in range(_SCALE + 1)]
    others = [sum(other == star for _, other in pairs) / n for star in range(_SCALE + 1)]
    expected = sum(ones[i] * others[j] * (i - j) ** 2 for i in range(_SCALE + 1) for j in range(_SCALE + 1))
    return 1 - observed / expected if expected > 0 else nan


def _weighted_of_pairs(judged: Sequence[Mapping[str, int]], raters: Sequence[str]) -> float:
    kappas: list[float] = []
    for first, second in combinations(raters, 2):
        kappa = weighted_cohen(
            [(marks[first], marks[second]) for marks in judged if first in marks and second in marks]
        )
        if not isnan(kappa):
            kappas.append(kappa)
    return mean(kappas) if kappas else nan
