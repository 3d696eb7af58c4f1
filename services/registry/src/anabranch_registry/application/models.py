"""Entries of models and data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from anabranch_faults import NotFound
from anabranch_registry.application import pages
from anabranch_registry.application.ports import Books, Clock, Ledger, utc_now
from anabranch_registry.domain import Change, checked_change
from anabranch_registry.domain.artifacts import Dataset, Model, ModelKind
from anabranch_registry.domain.notes import Link, Note

__all__ = ["Datasets", "Models", "register"]

E = TypeVar("E", Model, Dataset)


async def register(books: Books, entry: E, change: Change, *, scope: str = "") -> E:
    """Keep an entry, once; return it as it is kept. Raises Invalid, TooLarge."""
    entry.check(entry.noun)
    kept = await books.find(type(entry), entry.key)
    if kept is not None:
        return kept
    await books.put(entry)
    if isinstance(entry, Model):
        sources = {entry.dataset_version: "trained", entry.base_model: "trained"}
        await books.link(Link(source=one, target=entry.key, how=how) for one, how in sources.items() if one)
    note = Note(
        subject_kind=entry.noun,
        subject=entry.key,
        what="registered",
        scope=scope,
        author=change.author,
        reason=change.reason,
        at=change.at,
    )
    await books.note([note])
    return entry


@dataclass(frozen=True, slots=True)
class Models:
    """Registers and finds models."""

    ledger: Ledger
    now: Clock = utc_now

    async def register(self, model: Model, *, author: str, reason: str) -> Model:
        """Return the entry as kept. Raises Invalid, TooLarge."""
        change = checked_change(author=author, reason=reason, at=self.now())
        async with self.ledger.writing() as books:
            return await register(books, model, change)

    async def get(self, version: str) -> Model:
        """Return one. Raises NotFound."""
        async with self.ledger.reading() as books:
            found = await books.find(Model, version)
        if found is None:
            raise NotFound(f"there is no model {version!r}", field="model_version")
        return found

    async def list(
        self, *, kind: ModelKind | None, page_size: int = 0, page_token: str = ""
    ) -> tuple[Sequence[Model], str]:
        """Return a page, newest first. Raises Invalid."""
        count, before = pages.size(page_size), pages.number("models", page_token)
        async with self.ledger.reading() as books:
            page = await books.page(Model, scope=kind or "", count=count, before=before)
        return page.found, pages.token("models", page.following)


@dataclass(frozen=True, slots=True)
class Datasets:
    """Registers and finds data sets."""

    ledger: Ledger
    now: Clock = utc_now

    async def register(self, dataset: Dataset, *, author: str, reason: str) -> Dataset:
        """Return the entry as kept. Raises Invalid, TooLarge."""
        change = checked_change(author=author, reason=reason, at=self.now())
        async with self.ledger.writing() as books:
            return await register(books, dataset, change)

    async def get(self, version: str) -> Dataset:
        """Return one. Raises NotFound."""
        async with self.ledger.reading() as books:
            found = await books.find(Dataset, version)
        if found is None:
            raise NotFound(f"there is no data set {version!r}", field="dataset_version")
        return found

    async def list(self, *, page_size: int = 0, page_token: str = "") -> tuple[Sequence[Dataset], str]:
        """Return a page, newest first. Raises Invalid."""
        count, before = pages.size(page_size), pages.number("datasets", page_token)
        async with self.ledger.reading() as books:
            page = await books.page(Dataset, count=count, before=before)
        return page.found, pages.token("datasets", page.following)
