"""The artifact store, with the signing key that only this process has."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from anabranch_artifacts import ArtifactStore, Signer
from anabranch_faults import Invalid
from anabranch_training.application.ports import Made

__all__ = ["SignedShelf"]


class SignedShelf:
    """As the port says."""

    def __init__(self, store: ArtifactStore, signer: Signer | None) -> None:
        """Takes no signer where models are to stay unsigned; retrieval then refuses them."""
        self._store = store
        self._signer = signer

    async def put(self, made: Made) -> Made:
        """As in the port. Raises Invalid when the data set's files are not those its process counted."""
        return await asyncio.to_thread(self._put, made)

    def _put(self, made: Made) -> Made:
        if made.dataset.folder is None:
            raise Invalid("a data set without files cannot be stored")
        stored = self._store.put(made.dataset.folder, kind="dataset", signer=self._signer)
        if stored.version != made.dataset.version:
            raise Invalid(
                f"is {stored.version} by its files and {made.dataset.version} by its run: they were changed",
                field="dataset",
                reason="TAMPERED",
            )
        if made.model is None:
            return made
        model = self._store.put(made.model.folder, kind=made.model.kind.value, signer=self._signer)
        return replace(made, model=replace(made.model, version=model.version, digest=model.digest))
