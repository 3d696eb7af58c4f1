"""What of an answer can be told from question, passages and answer alone. No model, no network; any language."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

__all__ = ["FEATURE_SET", "NAMES", "Candidate", "features_of"]

FEATURE_SET: Final = "rw-f1"
"""A change of what a name means needs another: models learned from the old meaning."""
NAMES: Final = (
    "support",
    "worst_support",
    "phrase_support",
    "numbers_supported",
    "relevance",
    "echo",
    "length",
    "brevity",
    "sentences",
    "citations",
    "citations_valid",
    "sentences_cited",
    "says_nothing",
)

_WORD: Final = re.compile(r"[^\W_]+", re.UNICODE)
_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")
_MARKER: Final = re.compile(r"\[(\d{1,3})\]")
_SENTENCE: Final = re.compile(r"(?<=[.!?\]\u3002\uff01\uff1f])\s+(?!\[\d)|\n+")
_STEM: Final = 5
_LONG: Final = 60
_LEAST: Final = 3
_NOTHING: Final = re.compile(
    r"\b(?:do(?:es)? not answer|do(?:n't| not) know|can(?:not|'t) answer|no information|not (?:mentioned|found))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An answer with what it was drawn from, in the order of its markers."""

    question: str
    passages: Sequence[str]
    answer: str


def features_of(candidate: Candidate) -> tuple[float, ...]:
    """Values in the order of `NAMES`, all finite.

    support: share of a sentence's words that one passage has, averaged over the sentences; worst_support: the least;
    phrase_support: the same of pairs of words, over the whole answer; numbers_supported: share of numbers that a
    passage has; relevance: share of the question's words that the answer has; echo: share of the answer's that the
    question has; length: log of the words; brevity: how far it is from a long one; citations: log of their count;
    citations_valid: share that point at a passage; sentences_cited: share with a marker; says_nothing: it abstains.
    """
    text = _MARKER.sub(" ", candidate.answer)
    words, asked = _words(text), set(_words(candidate.question))
    passages = [_words(passage) for passage in candidate.passages]
    held = [set(passage) for passage in passages]
    sentences = [part for part in _SENTENCE.split(candidate.answer) if part and part.strip()]
    supports = [_share(set(_words(_MARKER.sub(" ", part))), held) for part in sentences if _words(part)]
    numbers = set(_NUMBER.findall(text))
    shown = set(_NUMBER.findall("\n".join(candidate.passages)))
    markers = [int(number) for number in _MARKER.findall(candidate.answer)]
    valid = sum(1 <= number <= len(candidate.passages) for number in markers)
    spoken = set(words)
    return (
        sum(supports) / len(supports) if supports else 0.0,
        min(supports, default=0.0),
        _share(_pairs(words), [_pairs(passage) for passage in passages]),
        len(numbers & shown) / len(numbers) if numbers else 1.0,
        len(asked & spoken) / len(asked) if asked else 0.0,
        len(asked & spoken) / len(spoken) if spoken else 0.0,
        math.log1p(len(words)),
        max(0.0, 1.0 - len(words) / _LONG),
        math.log1p(len(sentences)),
        math.log1p(len(markers)),
        valid / len(markers) if markers else 0.0,
        sum(bool(_MARKER.search(part)) for part in sentences) / len(sentences) if sentences else 0.0,
        float(bool(_NOTHING.search(text))),
    )


def _words(text: str) -> list[str]:
    """Folded, and cut so that most endings do not count; short words, which tell little, are left out."""
    found = _WORD.findall(text.casefold())
    return [word[:_STEM] for word in found if len(word) >= _LEAST or word.isdigit() or not word.isascii()]


def _pairs(words: Sequence[str]) -> set[str]:
    return {f"{first} {second}" for first, second in pairwise(words)}


def _share(wanted: set[str], held: Sequence[set[str]]) -> float:
    return max((len(wanted & one) / len(wanted) for one in held), default=0.0) if wanted else 0.0
