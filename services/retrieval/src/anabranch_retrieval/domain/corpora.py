"""Where a corpus stands, and what it takes for a version to be seen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from anabranch_retrieval.domain.documents import CorpusKey, DocumentKey, Edition, Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """One corpus. live: what readers are served from; building: filled by a reindex; previous: kept up to date to go
    back to. generation grows by one with every visible change.
    """  # noqa: D205  the fields, in one paragraph

    key: CorpusKey
    live: Model
    building: Model | None
    previous: Model | None
    generation: int
    document_count: int
    chunk_count: int
    changed_at: datetime

    @property
    def maintained(self) -> tuple[Model, ...]:
        """Every model whose edition takes each change, the live one first."""
        return tuple(model for model in (self.live, self.building, self.previous) if model is not None)

    def edition(self, model: Model) -> Edition:
        """The corpus under `model`."""
        return Edition(corpus=self.key, model=model)

    def readable(self, version: str) -> Model | None:
        """The model of that embedding version if its edition is complete, else None; empty: the live one."""
        if not version:
            return self.live
        complete = (self.live, self.previous)
        return next((model for model in complete if model is not None and model.version == version), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What the world is told once readers see a version, or no longer see a document."""

    cause: str
    document: DocumentKey
    version: int
    caused_by: str
    deleted: bool
    generation: int
    embedding_version: str
    chunk_count: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """A document with chunks that nobody may see any more, to be taken out of every edition."""

    id: int
    document: DocumentKey
    chunk_ids: tuple[str, ...]
    announcement: Announcement | None
