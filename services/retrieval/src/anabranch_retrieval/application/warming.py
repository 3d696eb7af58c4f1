"""After a start: the terms of passages are made before somebody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from anabranch_faults import Transient
from anabranch_retrieval.application.ports import Catalogue
from anabranch_retrieval.application.ranking import Ranking
from anabranch_retrieval.domain import CorpusKey

_AT_ONCE: Final = 20  # some 3 ms of the event loop, which searches wait for


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """Goes once through the live chunks of every corpus, until as many are known as are kept.

    A start would else make the first searches of each passage slower, by 0.1 ms for each candidate. pause: between
    reads, which leaves the processor to searches; trouble: told of outages, which are waited out.
    """

    catalogue: Catalogue
    ranking: Ranking
    pause: timedelta = timedelta(milliseconds=20)
    trouble: Callable[[Transient], None] = lambda _: None

    async def run(self) -> None:
        """Return when it is done."""
        while True:
            try:
                await self.once()
            except Transient as fault:
                self.trouble(fault)
                await asyncio.sleep(self.pause.total_seconds() * 100)
            else:
                return

    async def once(self) -> None:
        """Raises Transient, Unreachable when the catalogue does."""
        for edition in await self.catalogue.models_in_use():
            if not await self._corpus(edition.corpus):
                return

    async def _corpus(self, key: CorpusKey) -> bool:
        place = ""
        while True:
            chunks = await self.catalogue.live(key, after=place, limit=_AT_ONCE)
            if not chunks:
                return True
            place = chunks[-1].id
            if not all(self.ranking.learn(chunk) for chunk in chunks):
                return False
            await asyncio.sleep(self.pause.total_seconds())
