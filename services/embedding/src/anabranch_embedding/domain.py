"""What embedding means: texts with a prefix and sentences in, unit vectors out, and the identity of what made them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from anabranch_faults import Invalid, TooLarge

__all__ = [
    "MAX_CHARACTERS",
    "MAX_TEXTS",
    "Encoding",
    "Float32",
    "Int8",
    "ModelIdentity",
    "Text",
    "prefix_of",
    "quantise",
    "unit",
]

Float32 = npt.NDArray[np.float32]
Int8 = npt.NDArray[np.int8]

MAX_TEXTS: Final = 256
MAX_CHARACTERS: Final = 32_768
"""Of one text, prefix and body together."""

_INT8: Final = 127
_UNSAFE = re.compile(r"[^a-z0-9.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """What made a vector. Two vectors may be compared only when all fields are equal.

    `digest` is 16 hex digits; `quantisation` is `int8`, `fp32` or `none` (a remote server does not say).
    """

    name: str
    digest: str
    dimension: int
    quantisation: str

    @property
    def version(self) -> str:
        """The embedding version: lower case, letters, digits, dots and hyphens; it names collections."""
        name = _UNSAFE.sub("-", self.name.lower()).strip("-")
        return f"{name}-{self.quantisation}-{self.digest[:8]}"

    @classmethod
    def of_remote(cls, *, name: str, dimension: int) -> ModelIdentity:
        """Return the identity of a model whose weights nobody here has seen: its name and dimension stand for them."""
        digest = hashlib.sha256(f"{name}\n{dimension}".encode()).hexdigest()[:16]
        return cls(name=name, digest=digest, dimension=dimension, quantisation="none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What is embedded: `prefix`, a newline, `body`; without the prefix where it is empty.

    `sentences` are half-open ranges of code points of `body`, ascending, not overlapping.
    """

    body: str
    prefix: str = ""
    sentences: tuple[tuple[int, int], ...] = ()

    @property
    def whole(self) -> str:
        """All of it, as one string."""
        return f"{self.prefix}\n{self.body}" if self.prefix else self.body

    def checked(self, *, body: str, sentences: str) -> Text:
        """Return the text itself when it can be embedded.

        `body` and `sentences` are the fields to name in Invalid and TooLarge: blank, too long, sentences that are
        empty, out of range, out of order or overlapping.
        """
        if not self.body.strip():
            raise Invalid("is blank", field=body, reason="TEXT_BLANK")
        size = len(self.body) + len(self.prefix)
        if size > MAX_CHARACTERS:
            raise TooLarge(f"has {size:,} characters; the limit is {MAX_CHARACTERS:,}", field=body, reason="TEXT_LONG")
        last = 0
        for index, (start, end) in enumerate(self.sentences):
            if not last <= start < end <= len(self.body):
                raise Invalid(
                    f"[{start}, {end}) is empty, out of order or outside of a text of {len(self.body):,} characters",
                    field=f"{sentences}[{index}]",
                    reason="SENTENCE_RANGE",
                )
            last = end
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """One text's vectors. `sentences` has one row a sentence of the text, or none at all where the model gives none.

    A sentence of which the model saw no token (it lies past the model's window) has a row of zeros.
    """

    vector: Float32
    sentences: Int8
    tokens: int


def prefix_of(title: str, headings: Sequence[str]) -> str:
    """Return what is put before a chunk's text: its document's title, then its headings, outermost first."""
    path = " > ".join(part for part in (heading.strip() for heading in headings) if part)
    return "\n".join(part for part in (title.strip(), path) if part)


_NO_DIRECTION: Final = 1e-12


def unit(rows: Float32) -> Float32:
    """Return rows scaled to norm 1; a row of norm under 1e-12 has no direction and becomes zeros.

    Shape (n, dimension) in and out.
    """
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    # Far smaller rows than any model gives: their squares would lose their digits to float32's smallest numbers.
    scaled: Float32 = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > _NO_DIRECTION)
    return scaled


def quantise(rows: Float32) -> Int8:
    """Return unit rows times 127, rounded."""
    return np.rint(rows * _INT8).astype(np.int8)
