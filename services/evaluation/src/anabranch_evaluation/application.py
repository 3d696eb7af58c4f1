"""The use cases, and the ports they need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from anabranch_evaluation.domain.fates import Fate


class Tally(Protocol):
    """Counts by tenant, corpus and state. Raises Overloaded when it has no room for another corpus."""

    async def add(self, fate: Fate) -> None:
        """Counts one."""

    async def count(self, fate: Fate) -> int:
        """How many of these were counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountFates:
    """Counts what became of documents."""

    tally: Tally

    async def __call__(self, fates: Iterable[Fate]) -> None:
        """Counts all, in order."""
        for fate in fates:
            await self.tally.add(fate)
