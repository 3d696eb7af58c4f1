"""Taking out what nobody may see any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

from anabranch_faults import Transient
from anabranch_retrieval.application.ports import Catalogue, VectorIndex
from anabranch_retrieval.domain import CorpusKey, Removal

_AT_ONCE = 200
_TIDY_EVERY = 3600.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalWorker:
    """Carries out removals that are due: replaced chunks, deleted documents, editions given up.

    The list is in the catalogue, so a restart loses none; doing one twice is harmless. trouble: told of outages, which
    are waited out.
    """

    index: VectorIndex
    catalogue: Catalogue
    pause: timedelta = timedelta(milliseconds=500)
    trouble: Callable[[Transient], None] = lambda _: None

    async def run(self) -> None:
        """Work until cancelled."""
        tidied = -_TIDY_EVERY
        while True:
            try:
                if monotonic() - tidied >= _TIDY_EVERY:
                    await self.catalogue.tidy()
                    tidied = monotonic()
                busy = await self.once()
            except Transient as fault:
                self.trouble(fault)
                busy = False
            if not busy:
                await asyncio.sleep(self.pause.total_seconds())

    async def once(self) -> bool:
        """Do what is due; says whether there was anything."""
        due = await self.catalogue.removals(limit=_AT_ONCE)
        by_corpus: dict[CorpusKey, list[Removal]] = {}
        for removal in due:
            by_corpus.setdefault(removal.document.corpus, []).append(removal)
        for key, removals in by_corpus.items():
            corpus = await self.catalogue.corpus(key)
            chunk_ids = [chunk_id for removal in removals for chunk_id in removal.chunk_ids]
            for model in corpus.maintained if corpus is not None and chunk_ids else ():
                await self.index.remove(corpus.edition(model), chunk_ids)  # type: ignore[union-attr]  # as just tested
            await self.catalogue.removed(removals)
        for edition in await self.catalogue.retired():
            await self.index.drop(edition)
            await self.catalogue.dropped(edition)
        return len(due) == _AT_ONCE
