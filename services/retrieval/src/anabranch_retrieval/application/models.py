"""Whether the service can work: the index is there, and the embedding service serves what it was built with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from anabranch_faults import Conflict, Transient
from anabranch_retrieval.application.ports import Catalogue, Embedder, VectorIndex
from anabranch_retrieval.domain import Edition, Model


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckModels:
    """Compares the live edition of every corpus with the models that are served."""

    catalogue: Catalogue
    embedder: Embedder

    async def __call__(self) -> None:
        """Raise Conflict, naming corpora and models, when one cannot be queried; Unreachable without an answer."""
        editions = await self.catalogue.models_in_use()
        if not editions:
            return
        served = await self.embedder.models()
        unserved = [edition for edition in editions if edition.model not in served]
        if unserved:
            raise Conflict(_sentence(unserved, served), reason="MODEL_MISMATCH")


def _sentence(unserved: list[Edition], served: list[Model]) -> str:
    by_version: dict[str, list[str]] = {}
    for edition in unserved:
        by_version.setdefault(edition.model.version, []).append(str(edition.corpus))
    indexed = "; ".join(f"{', '.join(sorted(names)[:5])} with {version}" for version, names in by_version.items())
    return (
        f"the embedding service serves {', '.join(model.version for model in served) or 'nothing'}, but the index was "
        f"built with another model: {indexed}; serve that model, or start with unserved=allow and reindex"
    )


@dataclass(slots=True, kw_only=True)
class Readiness:
    """Looks after the dependencies. problem: why the service cannot answer, None when it can.

    strict: a model that is not served ends the service at its start; otherwise those corpora refuse queries.
    """

    index: VectorIndex
    models: CheckModels
    strict: bool
    pause: timedelta = timedelta(seconds=2)
    problem: str | None = "the index and the embedding service have not answered yet"

    async def watch(self) -> None:
        """Look until cancelled. Raises Conflict once, at the start, when models do not fit."""
        compared = False
        while True:
            try:
                await self.index.check()
                if not compared:
                    await self._compare()
                    compared = True
                self.problem = None
            except Transient as fault:
                self.problem = str(fault)
            await asyncio.sleep((self.pause if compared else self.pause / 10).total_seconds())

    async def _compare(self) -> None:
        try:
            await self.models()
        except Conflict:
            if self.strict:
                raise
