"""Re-embedding a corpus beside itself, swapping, and going back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from anabranch_faults import Fault, Invalid, NotFound, Transient
from anabranch_retrieval.application.ports import Catalogue, Embedder, VectorIndex
from anabranch_retrieval.domain import CorpusKey, Edition, Reindex

_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Reindexing:
    """What an operator can order."""

    index: VectorIndex
    catalogue: Catalogue
    embedder: Embedder
    worker: ReindexWorker

    async def start(self, key: CorpusKey, to_version: str) -> Reindex:
        """Begin a run towards a version or alias. Raises NotFound, Conflict, and Invalid for an unknown version."""
        if not to_version:
            raise Invalid("must name an embedding version or alias", field="to_version", reason="REQUIRED")
        corpus = await self.catalogue.corpus(key)
        if corpus is None:
            raise NotFound(f"there is no corpus {key.corpus}", field="corpus", reason="NO_CORPUS")
        model = await self.embedder.resolve(to_version)
        await self.index.open(corpus.edition(model))
        run = await self.catalogue.start_reindex(key, model)
        self.worker.wake()
        return run

    async def last(self, key: CorpusKey) -> Reindex:
        """The corpus's last run. Raises NotFound."""
        run = await self.catalogue.last_reindex(key)
        if run is None:
            raise NotFound(f"corpus {key.corpus} was never reindexed", field="corpus", reason="NO_REINDEX")
        return run

    async def roll_back(self, key: CorpusKey) -> Reindex:
        """Swap back, or give up the run under way. Raises NotFound, Conflict."""
        run = await self.catalogue.roll_back(key)
        self.worker.wake()
        return run


@dataclass(frozen=True, slots=True, kw_only=True)
class ReindexWorker:
    """Carries out runs and keeps the index's public names right.

    All state is in the catalogue: what an edition lacks is what is left to do, so a restart goes on where it was, and
    two replicas at one run only share it. trouble: told of what is waited out.
    """

    index: VectorIndex
    catalogue: Catalogue
    embedder: Embedder
    pause: timedelta = timedelta(seconds=1)
    trouble: Callable[[Fault], None] = lambda _: None
    _awake: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """There is something to do."""
        self._awake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self._awake.clear()
            try:
                await self.once()
            except Transient as fault:
                self.trouble(fault)
            try:
                await asyncio.wait_for(self._awake.wait(), self.pause.total_seconds())
            except TimeoutError:
                continue

    async def once(self) -> None:
        """Do all there is to do now."""
        for run, edition in await self.catalogue.running_reindexes():
            await self._carry_out(run, edition)
        for edition in await self.catalogue.unpointed():
            await self.index.point(edition)
            await self.catalogue.pointed(edition)

    async def _carry_out(self, run: Reindex, edition: Edition) -> None:
        try:
            await self.index.open(edition)
            while True:
                await self._fill(run, edition)
                if await self.catalogue.swap(run):
                    return
                last = await self.catalogue.last_reindex(run.corpus)
                if last is None or last.id != run.id or not last.state.running:
                    return  # rolled back meanwhile
        except Transient as fault:
            await self.catalogue.note(run, str(fault), failed=False)
            raise
        except Invalid as fault:
            # It will be refused tomorrow as it is today: for instance a model that is no longer served.
            self.trouble(fault)
            await self.catalogue.note(run, str(fault), failed=True)

    async def _fill(self, run: Reindex, edition: Edition) -> None:
        """One pass over what the edition lacks, in the fixed order."""
        place = ""
        while True:
            chunks, place = await self.catalogue.unindexed(edition, after=place, limit=_AT_ONCE)
            if not chunks:
                return
            entries = await self.embedder.embed_chunks(chunks, edition.model.version)
            for entry in entries:
                entry.fits(edition.model)
            await self.index.put(edition, entries)
            missing = await self.index.missing(edition, entries)
            found = [entry for entry in entries if entry.chunk.id not in missing]
            # What is not found yet is still lacking, and comes up in the next pass.
            gone = await self.catalogue.backfilled(run, edition, found)
            if gone:
                await self.index.remove(edition, gone)
            if missing:
                await asyncio.sleep(self.pause.total_seconds() / 10)
