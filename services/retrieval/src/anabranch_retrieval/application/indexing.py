"""From vectors to visible documents."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from anabranch_faults import Conflict, Fault, Invalid, Transient
from anabranch_retrieval.application.ports import Catalogue, Embedder, VectorIndex, Written
from anabranch_retrieval.domain import Change, Corpus, CorpusKey, Edition, Entry, Model, Part

_ROUNDS = 5  # a reindex begins while a batch is written: seldom once, never five times


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexDocuments:
    """Writes a batch of changes to every edition, reads each document back, then makes them visible.

    grace: how long replaced chunks stay for readers that began before the change. patience: pauses between looking
    for what was written.
    """

    index: VectorIndex
    catalogue: Catalogue
    embedder: Embedder
    grace: timedelta = timedelta(seconds=1)
    patience: Sequence[timedelta] = (
        timedelta(milliseconds=20),
        timedelta(milliseconds=100),
        timedelta(milliseconds=500),
    )

    async def __call__(self, changes: Sequence[Change]) -> dict[str, Fault]:
        """Index the changes, in order; returns the fault of each event that failed, by event id; the rest are done.

        Raises Unreachable or Overloaded when a dependency is away: then nothing may be taken as done, and all of it
        may be done again.
        """
        faults: dict[str, Fault] = {}
        for wave in _waves(changes):
            # A later change of a document whose earlier part failed goes on: the parts are counted in the catalogue.
            faults |= await self._wave(wave)
        return faults

    async def _wave(self, changes: Sequence[Change]) -> dict[str, Fault]:
        faults: dict[str, Fault] = {}
        left = list(changes)
        for _ in range(_ROUNDS):
            staged = await self.catalogue.stage(left)
            fresh = [change for change in left if change.event_id in staged.fresh]
            written: list[Written] = []
            by_corpus: dict[CorpusKey, list[Part]] = {}
            for change in fresh:
                if isinstance(change, Part):
                    by_corpus.setdefault(change.document.corpus, []).append(change)
                else:
                    written.append(Written(change=change, entries={}))
            results = await asyncio.gather(
                *(self._write(staged.corpora[key], parts, faults) for key, parts in by_corpus.items())
            )
            written += [one for result in results for one in result]
            # Generations are given in this order: that of the batch.
            written.sort(key=lambda one: fresh.index(one.change))
            left = await self.catalogue.publish(written, grace=self.grace) if written else []
            if not left:
                return faults
        stuck = Transient("editions of the corpus changed faster than the batch could be written")
        return faults | {change.event_id: stuck for change in left}

    async def _write(self, corpus: Corpus, parts: Sequence[Part], faults: dict[str, Fault]) -> list[Written]:
        """Put the parts into every edition of their corpus, and look for them there."""
        entries: dict[str, dict[str, Sequence[Entry]]] = {}
        for model in corpus.maintained:
            edition = corpus.edition(model)
            vectors, refused = await self._vectors(edition, parts)
            faults |= refused
            rows = [entry for part in vectors.values() for entry in part]
            if not rows:
                continue
            await self.index.open(edition)
            await self.index.put(edition, rows)
            missing = await self._missing(edition, rows)
            for event_id, of_part in vectors.items():
                lost = sum(entry.chunk.id in missing for entry in of_part)
                if lost:
                    problem = f"{lost} of {len(of_part)} chunks were written but are not found in {edition}"
                    faults[event_id] = Transient(problem)
                entries.setdefault(event_id, {})[model.version] = of_part
        return [Written(change=part, entries=entries[part.event_id]) for part in parts if part.event_id not in faults]

    async def _vectors(
        self, edition: Edition, parts: Sequence[Part]
    ) -> tuple[Mapping[str, Sequence[Entry]], dict[str, Fault]]:
        """The parts' vectors under the edition's model: as they came, or made anew."""
        vectors: dict[str, Sequence[Entry]] = {}
        refused: dict[str, Fault] = {}
        for part in parts:
            try:
                if part.model.version == edition.model.version:
                    require_same(edition, part.model)
                    vectors[part.event_id] = part.entries
                else:
                    chunks = [entry.chunk for entry in part.entries]
                    vectors[part.event_id] = await self.embedder.embed_chunks(chunks, edition.model.version)
            except Invalid as fault:
                refused[part.event_id] = fault
        return vectors, refused

    async def _missing(self, edition: Edition, rows: Sequence[Entry]) -> set[str]:
        missing = await self.index.missing(edition, rows)
        for pause in self.patience:
            if not missing:
                break
            await asyncio.sleep(pause.total_seconds())
            missing = await self.index.missing(edition, [row for row in rows if row.chunk.id in missing])
        return missing


def require_same(edition: Edition, model: Model) -> None:
    """Raise Conflict when vectors of `model` may not stand beside those of the edition."""
    if model != edition.model:
        raise Conflict(
            f"{edition.corpus} is indexed with {_named(edition.model)}, the vectors are of {_named(model)}: "
            "they cannot be compared; serve the model of the index, or reindex the corpus",
            reason="MODEL_MISMATCH",
        )


def _named(model: Model) -> str:
    return f"{model.version} ({model.name}, {model.digest}, {model.dimension} dimensions, {model.quantisation})"


def _waves(changes: Sequence[Change]) -> list[list[Change]]:
    """Cuts a batch so that each wave holds at most one version of a document; the order of a document is kept."""
    waves: list[list[Change]] = []
    place: dict[object, tuple[int, Change]] = {}
    for change in changes:
        number, before = place.get(change.document, (0, change))
        if (type(change), change.version) != (type(before), before.version):
            number += 1
        place[change.document] = (number, change)
        if number == len(waves):
            waves.append([])
        waves[number].append(change)
    return waves
