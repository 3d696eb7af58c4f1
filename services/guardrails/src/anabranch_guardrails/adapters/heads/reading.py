"""A text read once for all heads: its layers, their sentences, and what each head makes of every part."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from anabranch_guardrails.adapters.heads.grams import Grams, grams
from anabranch_guardrails.adapters.heads.linear import (
    Floats,
    Head,
    Rarities,
    Sums,
    Tables,
    head,
    model,
    rarities,
    squared,
    weighed,
)
from anabranch_guardrails.adapters.heads.windows import Windows, windows
from anabranch_guardrails.adapters.normal import LOOKED_AT, Layer, Unfolded, fold, unfold

__all__ = [
    "Part",
    "Reader",
    "Reading",
    "Told",
    "asked",
    "logistic",
    "packaged",
    "passage_features",
    "prompt_features",
    "read",
    "told",
    "told_of",
]

BLOCK: Final = 3_000
_STEP: Final = 2_000
_KEPT: Final = LOOKED_AT
"""Texts longer than this are not remembered."""
_SURE: Final = 12.0


_Value = TypeVar("_Value")


class Once(dict[str, _Value]):
    """Values made when they are asked for first."""

    def __init__(self, make: Callable[[str], _Value]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, name: str) -> _Value:
        """Makes it."""
        self[name] = value = self._make(name)
        return value


@dataclass(frozen=True)
class Part:
    """A layer as heads see it. `windows` are in places of its text; `scores` by head, one for each window.

    A head reads it when it is asked about first: few checks want all of them.
    """

    layer: Layer
    windows: Windows
    grams: Grams
    reader: Reader

    @cached_property
    def sums(self) -> Mapping[str, Sums]:
        """Each head's running sums."""
        squares = self.reader.squares.of(self.grams)
        return Once(
            lambda name: Sums(
                values=self.reader.weighed[name].of(self.grams), squares=squares, bias=self.reader.heads[name].bias
            )
        )

    @cached_property
    def scores(self) -> Mapping[str, Floats]:
        """Each head's scores of the windows."""
        starts, ends = self.compact(self.windows.starts), self.compact(self.windows.ends)
        return Once(lambda name: self.sums[name].of(starts, ends))

    def compact(self, places: NDArray[np.int32]) -> NDArray[np.int32]:
        """Compact places of places in the text; its length stands for the end."""
        count = self.grams.characters.shape[1]
        extended = np.append(self.grams.compact, count).astype(np.int32)
        return extended[places]

    def blocks(self, name: str) -> Floats:
        """A head's scores of the text in blocks; a text of one block is a block."""
        count = self.grams.characters.shape[1]
        starts = np.arange(0, max(1, count - BLOCK + _STEP), _STEP, dtype=np.int32)
        return self.sums[name].of(starts, np.minimum(starts + BLOCK, count))

    def span(self, window: int) -> tuple[int, int]:
        """Where in the text as it came a window stands."""
        return self.layer.folded.span(int(self.windows.starts[window]), int(self.windows.ends[window]))


@dataclass(frozen=True, slots=True)
class Reading:
    """All layers that hold any text."""

    unfolded: Unfolded
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Reader:
    """Heads, and what they share."""

    heads: Mapping[str, Head]
    rarity: Rarities

    @cached_property
    def squares(self) -> Tables:
        """What the lengths of parts come from."""
        return squared(self.rarity)

    @cached_property
    def weighed(self) -> Mapping[str, Tables]:
        """What the scores of parts come from, by head."""
        return {name: weighed(one, self.rarity) for name, one in self.heads.items()}

    def part(self, layer: Layer) -> Part:
        """One layer, which holds text."""
        text = layer.folded.text
        return Part(layer=layer, windows=windows(text), grams=grams(text), reader=self)

    def read(self, text: str, *, limit: int = _KEPT) -> Reading:
        """All of it."""
        unfolded = unfold(text, limit=limit)
        return Reading(
            unfolded=unfolded,
            parts=tuple(self.part(layer) for layer in unfolded.layers if layer.folded.text.strip()),
        )


def prompt_features(part: Part) -> Floats:
    """What a person's text is judged by: the best block and window, how many windows there were to choose from."""
    block, every = part.blocks("prompt"), part.scores["prompt"]
    best = float(every.max())
    return np.asarray(
        [
            float(block.max()),
            best,
            min(float(block.max()), best),
            float(part.scores["passage"].max()),
            float(part.scores["extraction"].max()),
            math.log1p(part.windows.single),
        ],
        dtype=np.float32,
    )


@dataclass(frozen=True, slots=True)
class Told:
    """What a part of a passage says whatever the question is: the features, and the words of the window in question."""

    features: Floats
    window: int
    words: frozenset[int]

    def to(self, question: frozenset[int]) -> Floats:
        """The features against a question; it holds the buckets of its words."""
        near = len(self.words & question) / len(self.words) if self.words and question else 0.0
        features = self.features.copy()
        features[_NEAR], features[_NEAR + 1] = near * float(features[0]), near
        features[_ASKED] = 1.0 if question else 0.0
        return features


_NEAR: Final = 5
_ASKED: Final = 8


def told(part: Part) -> Told:
    """How much it reads as an instruction, how much more than what stands around it; how near to a question is left."""
    scores, places = part.scores["passage"], part.windows
    window = int(scores.argmax())
    best = float(scores[window])
    singles = scores[: places.single]
    apart = np.ones(places.single, dtype=bool)
    apart[places.first[window] : places.last[window] + 1] = False
    others = singles[apart]
    usual = float(np.median(others)) if len(others) else -1.0
    spread = float(others.std()) if len(others) else 1.0
    next_best = float(others.max()) if len(others) else -1.0
    words = part.grams.words[0]
    low, high = part.compact(np.asarray([places.starts[window], places.ends[window]], dtype=np.int32))
    inside = (part.grams.word_places >= low) & (part.grams.word_places < high)
    mine, rest = set(words[inside].tolist()), set(words[~inside].tolist())
    alike = len(mine & rest) / len(mine) if mine and rest else 0.5
    features = [
        best,
        float(part.scores["prompt"][window]),
        float(part.scores["prompt"].max()),
        best - usual,
        best - next_best,
        0.0,
        0.0,
        alike,
        0.0,
        math.log1p(places.single),
        min(6.0, (best - usual) / (0.3 + spread)),
    ]
    return Told(features=np.asarray(features, dtype=np.float32), window=window, words=frozenset(mine))


def passage_features(part: Part, question: frozenset[int]) -> tuple[Floats, int]:
    """What a passage is judged by, and the window that this is about.

    How much it reads as an instruction, how much more than what stands around it, and how far it is from the question;
    `question` holds the buckets of its words.
    """
    found = told(part)
    return found.to(question), found.window


def logistic(features: Floats, stage: Mapping[str, object]) -> float:
    """The calibrated score of features."""
    weights = np.asarray(stage["weights"], dtype=np.float64)
    odds = float(features.astype(np.float64) @ weights + float(stage["bias"]))  # type: ignore[arg-type]  # JSON numbers
    return 1.0 / (1.0 + math.exp(-max(-_SURE, min(_SURE, odds))))


@lru_cache(maxsize=1)
def packaged() -> Reader:
    """The heads that come with the package."""
    stored = {**model("injection")["heads"], **model("extraction")["heads"], **model("toxicity")["heads"]}
    return Reader(heads={name: head(one) for name, one in stored.items()}, rarity=rarities())


@lru_cache(maxsize=16)
def _remembered(text: str) -> Reading:
    return packaged().read(text)


def read(text: str, *, limit: int = _KEPT) -> Reading:
    """By the heads that come with the package; several checks of one text read it once."""
    if len(text) <= _KEPT:
        return _remembered(text)
    return packaged().read(text, limit=limit)


@lru_cache(maxsize=256)
def asked(question: str) -> frozenset[int]:
    """The buckets of a question's words; one question comes with many passages."""
    return frozenset(grams(fold(question).text).words[0].tolist()) if question else frozenset()


@lru_cache(maxsize=8_192)
def told_of(text: str, limit: int = _KEPT) -> tuple[Told, ...]:
    """What a passage says whatever the question is, part by part; passages come again, with other questions."""
    return tuple(told(part) for part in read(text, limit=limit).parts)
