"""How much one person may give."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime


class RateLimit:
    """A token bucket a person, by the time of what they gave: a backlog that is read at once is not a flood.

    Bounded: of more than `most` persons, those unseen for longest begin anew.
    """

    def __init__(self, *, per_minute: float, burst: int, most: int = 100_000) -> None:
        """Takes the refill and the size of a bucket. 0 a minute: no limit."""
        self._rate = per_minute / 60
        self._burst = float(burst)
        self._most = most
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def take(self, tenant: str, user_id: str, at: datetime) -> bool:
        """Whether one more is allowed; takes a token if so."""
        if self._rate <= 0:
            return True
        person, now = (tenant, user_id), at.timestamp()
        tokens, last = self._buckets.pop(person, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - last) * self._rate)
        allowed = tokens >= 1
        self._buckets[person] = (tokens - 1 if allowed else tokens, max(now, last))
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return allowed

    def give_back(self, tenant: str, user_id: str) -> None:
        """Return a token: what it was taken for did not happen."""
        if found := self._buckets.get((tenant, user_id)):
            self._buckets[tenant, user_id] = (min(self._burst, found[0] + 1), found[1])
