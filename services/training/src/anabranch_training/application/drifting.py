"""Watching for drift: answers that feedback came for, before the last data set and since."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from anabranch_training.domain.drift import REFERENCE, Period, Reading, Signal

__all__ = ["Readings", "Shown", "WatchDrift"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An answer that a feedback came for. `reading` is None where none may be kept."""

    tenant: str
    corpus: str
    answer_id: str
    reading: Reading | None


class Readings(Protocol):
    """One reading an answer, in the order they came in; a data set that is made parts them. Raises Transient."""

    async def take(self, shown: Sequence[Shown]) -> None:
        """Keeps the first reading of each answer; one that may not be kept is forgotten."""

    async def parted(self, tenant: str, corpus: str) -> int:
        """Returns the number of the last reading from before the last data set; 0: there is none."""

    async def before(self, tenant: str, corpus: str, *, most: int) -> Sequence[Reading]:
        """Returns the latest `most` from before it, in order."""

    async def since(self, tenant: str, corpus: str, *, after: int) -> Sequence[tuple[int, Reading]]:
        """Returns those since it with a number above `after`, in order."""


@dataclass(slots=True)
class _Seen:
    parted: int
    period: Period
    last: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchDrift:
    """Says how likely it is that nothing has drifted since a corpus's last data set.

    What was seen is kept in memory, and after a start seen again: the same readings give the same p-values.
    """

    readings: Readings
    _seen: dict[tuple[str, str], _Seen] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def p_values(self, tenant: str, corpus: str) -> Mapping[Signal, float]:
        """Of all looks together; empty while too little was seen, before the last data set or since."""
        place = (tenant, corpus)
        async with self._lock:
            parted = await self.readings.parted(tenant, corpus)
            seen = self._seen.get(place)
            if seen is None or seen.parted != parted:
                before = await self.readings.before(tenant, corpus, most=REFERENCE)
                seen = self._seen[place] = _Seen(parted=parted, period=Period(before))
            fresh = await self.readings.since(tenant, corpus, after=seen.last)
            if fresh:
                await asyncio.to_thread(seen.period.add, [reading for _, reading in fresh])
                seen.last = fresh[-1][0]
            return seen.period.p_values
