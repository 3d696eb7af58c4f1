"""Linear heads over hashed n-grams: every part of a text at once."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anabranch_guardrails.adapters.heads.grams import CHARACTER_BITS, WORD_BITS, Grams

__all__ = ["Floats", "Head", "Places", "Sums", "Tables", "model", "rarities", "squared", "sums", "weighed"]

Floats = NDArray[np.float32]
Places = NDArray[np.int32]
_TINY: Final = np.float32(1e-6)


@dataclass(frozen=True, slots=True)
class Rarities:
    """How rare the n-grams of each bucket are (inverse document frequency)."""

    characters: Floats
    words: Floats


@dataclass(frozen=True, slots=True)
class Head:
    """Weights by bucket, and what is added. Score of a part: its weighted, length-one n-gram vectors, plus the bias."""

    characters: Floats
    words: Floats
    bias: float


@dataclass(frozen=True, slots=True)
class Sums:
    """A head's running sums over a text, so that any part's score is two differences."""

    values: tuple[Floats, Floats]
    squares: tuple[Floats, Floats]
    bias: float

    def of(self, starts: Places, ends: Places) -> Floats:
        """The score (log odds) of each part, by compact places."""
        total = np.full(len(starts), self.bias, dtype=np.float32)
        for values, squares in zip(self.values, self.squares, strict=True):
            length = np.sqrt(np.maximum(squares[ends] - squares[starts], _TINY))
            total += (values[ends] - values[starts]) / length
        return total


def _running(places: Places | None, per_place: NDArray[np.float64], count: int) -> Any:
    if places is not None:
        per_place = np.bincount(places, weights=per_place, minlength=count).astype(np.float64)
    return np.concatenate([[0.0], np.cumsum(per_place)])


@dataclass(frozen=True, slots=True)
class Tables:
    """By bucket, what running sums add up: rarities squared, and a head's weights times rarities."""

    characters: NDArray[np.generic]
    words: NDArray[np.generic]

    def of(self, text: Grams) -> tuple[Floats, Floats]:
        """The running sums over a text's characters, and over its words."""
        count = text.characters.shape[1]
        return (  # float64 sums, so that long texts lose nothing
            _running(None, self.characters[text.characters].sum(0, dtype=np.float64), count),
            _running(text.word_places, self.words[text.words].sum(0, dtype=np.float64), count),
        )


def squared(rarity: Rarities) -> Tables:
    """Of rarities: what the lengths of parts come from."""
    return Tables(np.square(rarity.characters, dtype=np.float64), np.square(rarity.words, dtype=np.float64))


def weighed(head: Head, rarity: Rarities) -> Tables:
    """Of a head: what the scores of parts come from."""
    return Tables(head.characters * rarity.characters, head.words * rarity.words)


def sums(text: Grams, heads: Mapping[str, Head], rarity: Rarities) -> dict[str, Sums]:
    """Each head's running sums."""
    squares = squared(rarity).of(text)
    return {
        name: Sums(values=weighed(head, rarity).of(text), squares=squares, bias=head.bias)
        for name, head in heads.items()
    }


@lru_cache(maxsize=16)
def model(name: str) -> Mapping[str, Any]:
    """The model of that name that comes with the package."""
    found: dict[str, Any] = json.loads((files("anabranch_guardrails") / "models" / f"{name}.json").read_text("utf-8"))
    return found


def unpacked(packed: Mapping[str, Any], bits: int) -> Floats:
    """Weights from bytes and their scale."""
    raw = np.frombuffer(base64.b64decode(packed["bytes"]), dtype=packed["type"])
    if len(raw) != 1 << bits:
        raise ValueError(f"{len(raw)} weights for {1 << bits} buckets")
    return (raw.astype(np.float32) * np.float32(packed["scale"])).astype(np.float32)


def head(stored: Mapping[str, Any]) -> Head:
    """A head as the model's file holds it."""
    return Head(
        characters=unpacked(stored["characters"], CHARACTER_BITS),
        words=unpacked(stored["words"], WORD_BITS),
        bias=float(stored["bias"]),
    )


@lru_cache(maxsize=1)
def rarities() -> Rarities:
    """Those that all heads share."""
    stored = model("rarities")
    return Rarities(
        characters=unpacked(stored["characters"], CHARACTER_BITS), words=unpacked(stored["words"], WORD_BITS)
    )
