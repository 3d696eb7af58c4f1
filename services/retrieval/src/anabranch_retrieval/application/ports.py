"""What the use cases need: an index, a catalogue, an embedder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from anabranch_retrieval.domain import (
    Change,
    Chunk,
    Corpus,
    CorpusKey,
    Edition,
    Entry,
    Model,
    Reindex,
    Removal,
    Reranker,
    Scored,
    Search,
)


class VectorIndex(Protocol):
    """Vectors and terms of chunks, an edition apart from every other; it knows nothing of what readers may see.

    All of it may be done again: the same call twice has the effect of one. Raises Unreachable when the index is away,
    Transient when it did part of the work.
    """

    async def open(self, edition: Edition) -> None:
        """Make the place for an edition; quick when it is there."""

    async def put(self, edition: Edition, entries: Sequence[Entry]) -> None:
        """Insert or replace all entries, by chunk id; when it returns, the index has acknowledged each."""

    async def missing(self, edition: Edition, entries: Sequence[Entry]) -> set[str]:
        """Look for every entry by its vector and by one of its terms; return the ids a reader could not find."""

    async def search(self, edition: Edition, search: Search) -> list[Scored]:
        """Hybrid search, best first. What the filters, labels and documents do not allow is not found.

        Scores are fused by relative score over the best candidates of each half (at least 100 each). Empty when the
        edition was never filled.
        """

    async def remove(self, edition: Edition, chunk_ids: Sequence[str]) -> None:
        """Take these out, and read back that they are gone; unknown ids are no fault."""

    async def point(self, edition: Edition) -> None:
        """Let the corpus's public name in the index (an alias, where it has such) stand for this edition."""

    async def drop(self, edition: Edition) -> None:
        """Take the whole edition out."""

    async def check(self) -> None:
        """Raise Unreachable when the index is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A vector (float32, norm 1) and what made it."""

    vector: NDArray[np.float32]
    model: Model


class Embedder(Protocol):
    """The embedding service. Raises Unreachable or Overloaded when it is away or full."""

    async def embed_query(self, text: str, version: str) -> Embedded:
        """Vector of a query. Raises Invalid when the version is unknown."""

    async def embed_chunks(self, chunks: Sequence[Chunk], version: str) -> list[Entry]:
        """Vectors of chunks and of their sentences, in order. Raises Invalid when the version is unknown."""

    async def resolve(self, version: str) -> Model:
        """The model of a version or alias. Raises Invalid when it is unknown."""

    async def models(self) -> list[Model]:
        """All models that are served, the default first."""


class Rerankers(Protocol):
    """Rerankers by version."""

    async def get(self, version: str) -> Reranker | None:
        """The reranker, loaded if need be; None when it cannot be had, or not in time. Raises nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """Changes of a batch that are news, and the corpora they belong to."""

    fresh: frozenset[str]  # event ids
    corpora: Mapping[CorpusKey, Corpus]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A change that the index holds: for each embedding version, the entries as written. Deletions have none."""

    change: Change
    entries: Mapping[str, Sequence[Entry]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a reader is shown of a chunk. chunk is None when its version is not live; changed: the generation in which
    its document last changed.
    """  # noqa: D205  the fields, in one paragraph

    chunk: Chunk | None
    sentence_vectors: bytes
    changed: int


class Catalogue(Protocol):
    """What is known of corpora and documents. Every method is one transaction. Raises Unreachable or Transient."""

    async def corpus(self, key: CorpusKey) -> Corpus | None:
        """The corpus as of a moment after the call began; None when nothing was ever put there."""

    async def corpora(self, tenant: str) -> list[Corpus]:
        """The tenant's corpora by name."""

    async def models_in_use(self) -> list[Edition]:
        """The live edition of every corpus."""

    async def shown(self, key: CorpusKey, version: str, chunk_ids: Sequence[str]) -> dict[str, Shown]:
        """What is known of these chunks; sentence vectors are those of embedding version `version`."""

    async def live(self, key: CorpusKey, *, after: str, limit: int) -> list[Chunk]:
        """Chunks that readers may see, in the order of their ids, past the id `after`; empty: none past it."""

    async def stage(self, changes: Sequence[Change]) -> Staged:
        """Note that these versions are coming, keep their chunks' text, open corpora that are new.

        A change older than what is known of its document, or done already, is not fresh. Nothing becomes visible.
        """

    async def publish(self, written: Sequence[Written], *, grace: timedelta) -> list[Change]:
        """Make visible what is complete, with its announcement and the note that its event is done, all or nothing.

        A version shows when all of its parts are in. What it replaces is given to be removed after `grace`; so is a
        deleted document, whose announcement follows the removal. Returns those changes for which an edition lacks
        entries, because a reindex began meanwhile: nothing was done for them.
        """

    async def removals(self, *, limit: int) -> list[Removal]:
        """Removals whose time has come."""

    async def removed(self, done: Sequence[Removal]) -> None:
        """The index no longer has these: forget the chunks, announce deletions."""

    async def unpointed(self) -> list[Edition]:
        """Live editions whose public name in the index does not stand for them yet."""

    async def pointed(self, edition: Edition) -> None:
        """The public name stands for this edition."""

    async def start_reindex(self, key: CorpusKey, to: Model) -> Reindex:
        """Begin; from now on changes are written to both. Raises NotFound, Conflict when one runs or `to` is live."""

    async def last_reindex(self, key: CorpusKey) -> Reindex | None:
        """The corpus's last run."""

    async def running_reindexes(self) -> list[tuple[Reindex, Edition]]:
        """Runs with work left to do, and the edition each fills."""

    async def unindexed(self, edition: Edition, *, after: str, limit: int) -> tuple[list[Chunk], str]:
        """Live chunks the edition lacks, in a fixed order past the place `after`, and the place reached.

        An empty list: none past `after`.
        """

    async def backfilled(self, run: Reindex, edition: Edition, entries: Sequence[Entry]) -> list[str]:
        """The edition has these now. Returns the ids that are live no more: nobody else will take those out."""

    async def swap(self, run: Reindex) -> bool:
        """Serve from the edition built, if it lacks nothing at this moment; else False, and nothing happens."""

    async def note(self, run: Reindex, problem: str, *, failed: bool) -> None:
        """Keep the last problem of a run; a failed run ends and its edition is given up."""

    async def roll_back(self, key: CorpusKey) -> Reindex:
        """Serve from the edition before the last swap, or give up a run under way. Raises NotFound, Conflict."""

    async def retired(self) -> list[Edition]:
        """Editions given up and no longer read."""

    async def dropped(self, edition: Edition) -> None:
        """The index no longer has this edition."""

    async def tidy(self) -> None:
        """Forget events too old to come again, and give up previous editions kept long enough. For now and then."""
