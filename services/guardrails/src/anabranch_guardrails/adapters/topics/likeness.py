"""How like a text is to examples, by words and parts of words: paraphrases in other words are not seen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from anabranch_grounding import sentences_of, stems

MOST_CHARACTERS: Final = 20_000
"""Of a text that are compared."""
_MOST_SENTENCES: Final = 60
_KEPT: Final = 1_000
_PART: Final = 4
_PARTS_WEIGHT: Final = 0.5
"""Of all the parts of a word against the word as a whole."""


class Likeness:
    """Examples by topic, ready to be compared with."""

    def __init__(self, examples: Mapping[str, Sequence[str]]) -> None:
        """Examples for each topic; the topic's name is one of them."""
        listed = {topic: [*texts, topic.replace("_", " ")] for topic, texts in examples.items()}
        every = [frozenset(_features(text)) for texts in listed.values() for text in texts]
        counts = Counter(feature for features in every for feature in features)
        self._unknown = math.log1p(len(every))
        self._weights = {feature: math.log1p(len(every) / count) for feature, count in counts.items()}
        self._examples = {topic: [self._vector(text) for text in texts] for topic, texts in listed.items()}
        self._words = {
            topic: frozenset(word for text in texts for word in stems(text)) for topic, texts in listed.items()
        }

    def nearest(self, text: str) -> tuple[str, float]:
        """The topic that some sentence of the text, or all of it, is most like, and how much, 0 to 1."""
        text = text[:MOST_CHARACTERS]
        parts = sentences_of(text)[:_MOST_SENTENCES]
        if len(parts) != 1:
            parts.append(text)
        best, found = 0.0, ""
        for part in parts:
            vector = self._vector(part)
            if not vector:
                continue
            words = set(stems(part))
            for topic, examples in self._examples.items():
                cosine = max((_cosine(vector, example) for example in examples), default=0.0)
                shared = words & self._words[topic]
                share = len(shared) / len(words) if words else 0.0
                # One word in common says little, however short the sentence is.
                held = share * min(len(shared) / 2, 1.0)
                score = max(cosine, (cosine + held) / 2)
                if score > best:
                    best, found = score, topic
        return found, min(best, 1.0)

    def _vector(self, text: str) -> dict[str, float]:
        counts = _features(text)
        vector = {
            feature: weight * self._weights.get(feature, self._unknown) for feature, weight in counts.items() if weight
        }
        norm = math.sqrt(math.fsum(value * value for value in vector.values()))
        return {feature: value / norm for feature, value in vector.items()} if norm else {}


def _features(text: str) -> Mapping[str, float]:
    """As `_made`, kept for the next check of the same text where it is short."""
    return _kept(text) if len(text) <= _KEPT else _made(text)


def _made(text: str) -> dict[str, float]:
    """Stems, and the parts that words of one kin share."""
    found: dict[str, float] = {}
    for word in stems(text):
        found["=" + word] = 1.0
        padded = f"_{word}_"
        parts = [padded[at : at + _PART] for at in range(max(len(padded) - _PART + 1, 1))]
        weight = _PARTS_WEIGHT / math.sqrt(len(parts))
        for part in parts:
            found[part] = max(found.get(part, 0.0), weight)
    return found


@lru_cache(maxsize=256)
def _kept(text: str) -> Mapping[str, float]:
    return MappingProxyType(_made(text))


def _cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    if len(other) < len(one):
        one, other = other, one
    return math.fsum(value * other[feature] for feature, value in one.items() if feature in other)
