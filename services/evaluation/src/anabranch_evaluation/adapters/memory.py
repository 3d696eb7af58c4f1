"""Counts in this process: gone with it."""

from __future__ import annotations

from collections import Counter

from anabranch_evaluation.domain.fates import Fate
from anabranch_faults import Overloaded


class MemoryTally:
    """A bounded counter."""

    def __init__(self, *, most_corpora: int) -> None:
        """Takes the bound on (tenant, corpus) pairs."""
        self._most = most_corpora
        self._counts: Counter[Fate] = Counter()
        self._corpora: set[tuple[str, str]] = set()

    async def add(self, fate: Fate) -> None:
        """Counts one."""
        corpus = (fate.tenant, fate.corpus)
        if corpus not in self._corpora and len(self._corpora) >= self._most:
            raise Overloaded(f"already counting {self._most} corpora")
        self._corpora.add(corpus)
        self._counts[fate] += 1

    async def count(self, fate: Fate) -> int:
        """How many of these were counted."""
        return self._counts[fate]
