"""Keeps the error of served answers under the operator's bound, learning from answers that were compared.

The verifier says how likely a cached answer is to be right. What that is worth here is not known beforehand: the
corpus is another, and so are its readers. So its log-odds are taken to be off by a shift and a slope, and a part of the
answers to differ in any case: the same for all questions of a corpus, of which a grid holds a posterior. Each entry may
be off by itself. An answer is served only where the posterior's upper quantile of its error, moved by what is known of
the entry, is within the bound: of a corpus that nothing is known of, nothing is served until some comparisons agreed.

Comparisons cost nothing where a question was a miss: a fresh answer was made anyway. Of what would be served, a
sample is answered afresh: a test that may be looked at after every comparison (a betting martingale) halves the bound
that is worked with when the sample says that the operator's is not kept, and gives it back when the sample allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float64]

# How far log-odds may be off (a shift and a slope), and the part of answers that differ whatever the question says: a
# model that never words one answer alike, or passages that are right for neither.
_SHIFTS: Final[Grid] = np.linspace(-3.0, 4.0, 11)
_SLOPES: Final[Grid] = np.array([0.3, 0.45, 0.6, 0.75, 0.9, 1.05])
_FLOORS: Final[Grid] = np.array([0.0, 0.003, 0.008, 0.015, 0.03, 0.06, 0.15])
_FLOOR_PRIOR: Final[Grid] = np.log(np.array([0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05]))
_SHIFT, _SLOPE, _FLOOR = (axis.ravel() for axis in np.meshgrid(_SHIFTS, _SLOPES, _FLOORS, indexing="ij"))
_OWN: Final[Grid] = np.linspace(-5.0, 6.0, 23)
_OWN_SPREAD: Final = 1.5
_MEMORY: Final = 0.999  # of a comparison's weight, each time another comes: corpora change
# Of what all corpora taught, a new one is expected to be like a part, and like no more comparisons than these.
_CARRIED: Final = 0.25
_CARRIED_MOST: Final = 30
_LIMIT: Final = 30.0
_LEAST: Final = 1e-9


def _sigmoid(values: Grid) -> Grid:
    found: Grid = 1.0 / (1.0 + np.exp(-values))
    return found


def _prior() -> Grid:
    # The slope leans to less than 1: a verifier is surer of itself abroad than it should be.
    logs: Grid = (
        -0.5 * _SHIFT**2 - 0.5 * ((_SLOPE - 0.85) / 0.25) ** 2 + np.tile(_FLOOR_PRIOR, _SHIFTS.size * _SLOPES.size)
    )
    return logs


def _error(logit: float) -> Grid:
    found: Grid = (_FLOOR + (1 - _FLOOR) * _sigmoid(_SHIFT - _SLOPE * logit)).clip(_LEAST, 1 - _LEAST)
    return found


_PRIOR: Final[Grid] = _prior()
# Of nothing known, the mean of the error is what the corpus says: the spread alone must not raise it.
_OWN_PRIOR: Final[Grid] = -0.5 * ((_OWN + _OWN_SPREAD**2 / 2) / _OWN_SPREAD) ** 2


@dataclass(slots=True)
class Trust:
    """What comparisons in one corpus said of the verifier."""

    _logs: Grid = field(default_factory=_PRIOR.copy)
    compared: int = 0

    def elsewhere(self) -> Trust:
        """What to expect of another corpus: something of it, as if of few comparisons."""
        weight = min(_CARRIED, _CARRIED_MOST / max(self.compared, 1))
        return Trust(_logs=_PRIOR + (self._logs - _PRIOR) * weight)

    def learn(self, logit: float, *, wrong: bool) -> None:
        """Takes one comparison of a cached answer with a fresh one."""
        error = _error(logit)
        self._logs = _PRIOR + (self._logs - _PRIOR) * _MEMORY + np.log(error if wrong else 1 - error)
        self.compared += 1

    def error_logit(self, logit: float, *, confidence: float) -> float:
        """Log-odds of being wrong, at the posterior's upper quantile."""
        weights = np.exp(self._logs - self._logs.max())
        values = _error(logit)
        order = np.argsort(values)
        reached = np.cumsum(weights[order])
        at = int(np.searchsorted(reached, confidence * reached[-1]))
        error = float(values[order[min(at, order.size - 1)]])
        return math.log(error / (1 - error))


@dataclass(slots=True)
class Reliability:
    """What comparisons said of one entry, apart from its corpus."""

    _logs: Grid | None = None  # most entries are never compared
    compared: int = 0

    def learn(self, error_logit: float, *, wrong: bool) -> None:
        """Takes one comparison; `error_logit` is what was expected of it."""
        own = self._logs if self._logs is not None else _OWN_PRIOR
        moved = _OWN + error_logit
        self._logs = own - np.logaddexp(0.0, -moved if wrong else moved)
        self.compared += 1

    def error(self, error_logit: float) -> float:
        """The probability of being wrong, 0 to 1."""
        if self._logs is None:
            return 1.0 / (1.0 + math.exp(max(-_LIMIT, min(_LIMIT, -error_logit))))
        weights = np.exp(self._logs - self._logs.max())
        return float((weights * _sigmoid(_OWN + error_logit)).sum() / weights.sum())


_BETS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
_PROOF: Final = math.log(20.0)
_TIGHTEST: Final = 1 / 16
_FIRST: Final = 0.5
_EAGER: Final = 3.0


@dataclass(slots=True)
class Watch:
    """Watches over a sample of what is served, and tightens the bound when it is not kept.

    `share` is the part of the operator's bound that is worked with. Each side bets that the other is wrong; whoever
    has made 20 of 1 is believed, at any moment, and is then wrong in less than one of 20 cases.
    """

    bound: float
    share: float = 1.0
    _too_high: list[float] = field(default_factory=lambda: [0.0] * len(_BETS))
    _low_enough: list[float] = field(default_factory=lambda: [0.0] * len(_BETS))
    sampled: int = 0

    def rate(self, least: float) -> float:
        """The part of hits to sample: more of the first, for it may have been luck that got a corpus this far."""
        return max(least, min(_FIRST, _EAGER / (_EAGER + self.sampled)))

    @property
    def effective(self) -> float:
        """The bound to work with."""
        return self.bound * self.share

    def learn(self, *, wrong: bool) -> bool | None:
        """Takes one comparison of what would have been served. True: tightened; False: relaxed; None: as it was."""
        self.sampled += 1
        if not 0 < self.bound < 1:
            return None
        for at, bet in enumerate(_BETS):
            # Both bets are fair or worse when the error is just the bound: neither side is favoured by it.
            stake = min(bet, 0.9 / self.bound)
            self._too_high[at] += math.log1p(stake * (float(wrong) - self.bound))
            part = min(bet / 4, 0.9)
            self._low_enough[at] += math.log1p(part * (self.bound - float(wrong)) / (1 - self.bound))
        if _evidence(self._too_high) >= _PROOF:
            self.share = max(self.share / 2, _TIGHTEST)
            self._forget()
            return True
        if self.share < 1 and _evidence(self._low_enough) >= _PROOF:
            self.share = min(self.share * 2, 1.0)
            self._forget()
            return False
        return None

    def _forget(self) -> None:
        self._too_high = [0.0] * len(_BETS)
        self._low_enough = [0.0] * len(_BETS)


def _evidence(logs: list[float]) -> float:
    most = max(logs)
    return most + math.log(sum(math.exp(each - most) for each in logs) / len(logs))
