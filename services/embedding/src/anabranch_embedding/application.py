"""Use cases of embedding and the port they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from anabranch_embedding.domain import MAX_TEXTS, Encoding, ModelIdentity, Text
from anabranch_faults import Invalid, NotFound, TooLarge

__all__ = ["Catalogue", "EmbedChunks", "EmbedTexts", "Encoder", "ListModels"]

URGENT_TEXTS: Final = 8
"""A request of at most so many texts is somebody waiting for an answer; a larger one is bulk work, like documents."""


class Encoder(Protocol):
    """Texts in, unit vectors out."""

    @property
    def identity(self) -> ModelIdentity:
        """Known without loading anything."""

    async def encode(self, texts: Sequence[Text], *, urgent: bool) -> list[Encoding]:
        """Return one encoding a text, in the order given.

        Takes milliseconds to seconds and never blocks the event loop. Urgent work does not wait behind work that is
        not. Raises Overloaded when the queue is full, Unreachable when the model is elsewhere and away. The first
        call may load the model. When the caller is cancelled, what has not begun is not done.
        """


class Catalogue:
    """The encoders served here, by alias (`int8`, `fp32`, `openai`) and by version; the first is the default."""

    def __init__(self, encoders: Mapping[str, Encoder]) -> None:
        """Takes at least one encoder. Raises ValueError when two have one version."""
        if not encoders:
            raise ValueError("a catalogue needs an encoder")
        self._aliases = dict(encoders)
        self._versions = {encoder.identity.version: encoder for encoder in encoders.values()}
        if len(self._versions) != len(self._aliases):
            raise ValueError("two encoders have the same version")

    @property
    def default(self) -> Encoder:
        """What is used where nobody asks for a version."""
        return next(iter(self._aliases.values()))

    def identities(self) -> list[ModelIdentity]:
        """All, the default first."""
        return [encoder.identity for encoder in self._aliases.values()]

    def find(self, version: str) -> Encoder:
        """Return the encoder of a version or alias, the default for the empty string. Raises NotFound."""
        if not version:
            return self.default
        found = self._versions.get(version) or self._aliases.get(version)
        if found is None:
            known = ", ".join([*self._aliases, *self._versions])
            raise NotFound(f"no embedding version {version!r}; there are {known}", field="version")
        return found


@dataclass(frozen=True, slots=True)
class ListModels:
    """Which embedding versions can be had."""

    catalogue: Catalogue

    def __call__(self) -> list[ModelIdentity]:
        """Return them, the default first."""
        return self.catalogue.identities()


@dataclass(frozen=True, slots=True)
class EmbedTexts:
    """Vectors for a caller who waits."""

    catalogue: Catalogue

    async def __call__(self, texts: Sequence[Text], *, version: str = "") -> tuple[ModelIdentity, list[Encoding]]:
        """Return what made them, and one encoding a text. Raises Invalid, NotFound, Overloaded, Unreachable."""
        if not texts:
            raise Invalid("is empty", field="texts", reason="TEXTS_EMPTY")
        if len(texts) > MAX_TEXTS:
            raise TooLarge(f"has {len(texts)} texts; the limit is {MAX_TEXTS}", field="texts", reason="TEXTS_MANY")
        encoder = self.catalogue.find(version)
        return encoder.identity, await encoder.encode(texts, urgent=len(texts) <= URGENT_TEXTS)


@dataclass(frozen=True, slots=True)
class EmbedChunks:
    """Vectors for documents, under the default version."""

    catalogue: Catalogue

    async def __call__(self, parts: Sequence[Sequence[Text]]) -> tuple[ModelIdentity, list[list[Encoding]]]:
        """Return what made them, and one encoding a chunk, part for part.

        All chunks of all parts are encoded together, so that texts of one length meet. Raises Overloaded, Unreachable.
        """
        encoder = self.catalogue.default
        flat = [text for part in parts for text in part]
        encodings = iter(await encoder.encode(flat, urgent=False) if flat else [])
        return encoder.identity, [[next(encodings) for _ in part] for part in parts]
