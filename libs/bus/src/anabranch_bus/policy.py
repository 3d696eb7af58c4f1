"""How often, how long, how many: the numbers behind the fates."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

__all__ = ["Backoff", "Halted", "Limits", "Policy"]

_LONGEST_HINT: Final = timedelta(minutes=1)


class Halted(Exception):  # noqa: N818  it is a state, not an error of the caller
    """A consumer stopped by itself rather than drain its topic into the dead letters; `str()` says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential with full jitter: the n-th wait is uniform between 0 and min(longest, first * 2**n).

    Full jitter spreads retries of many replicas best (Brooker, "Exponential backoff and jitter", 2015).
    """

    first: timedelta = timedelta(milliseconds=100)
    longest: timedelta = timedelta(seconds=5)

    def wait(self, n: int, *, rng: random.Random, at_least: timedelta | None = None) -> timedelta:
        """Return the n-th wait (from 0), not shorter than `at_least`; but no hint is worth more than a minute."""
        ceiling = min(self.longest, self.first * (1 << min(n, 30)))
        drawn = ceiling * rng.random()
        return max(drawn, min(at_least, _LONGEST_HINT)) if at_least else drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a subscription does about failure.

    attempts: how often a record may fail for a passing reason, or by a bug, before it is a dead letter.
    in_a_row, share, window: a partition halts past `in_a_row` dead letters with none handled between them, or past
    `share` of its last `window` records.
    """

    attempts: int = 5
    bug_attempts: int = 3
    retry: Backoff = Backoff()
    pause: Backoff = Backoff(first=timedelta(milliseconds=200))
    in_a_row: int = 50
    share: float = 0.01
    window: int = 1_000


class Limits:
    """Counts fates on one partition and says when the next dead letter would be one too many."""

    def __init__(self, policy: Policy) -> None:
        """Takes the limits."""
        self._policy = policy
        self._row = 0
        self._recent: deque[bool] = deque(maxlen=policy.window)
        self._dead = 0

    def done(self, count: int = 1) -> None:
        """`count` records were handled."""
        if count:
            self._row = 0
        for _ in range(count):
            self._add(dead=False)

    def dead(self) -> None:
        """A record became a dead letter."""
        self._row += 1
        self._add(dead=True)

    def check(self) -> None:
        """Raise Halted when another dead letter would pass a limit."""
        policy = self._policy
        if self._row >= policy.in_a_row:
            raise Halted(f"{self._row} dead letters in a row (limit {policy.in_a_row})")
        allowed: Final = int(policy.share * policy.window)
        if len(self._recent) == policy.window and self._dead + 1 > allowed:
            raise Halted(f"{self._dead} dead letters in the last {policy.window} records (limit {allowed})")

    def _add(self, *, dead: bool) -> None:
        if len(self._recent) == self._policy.window and self._recent[0]:
            self._dead -= 1
        self._recent.append(dead)
        self._dead += dead
