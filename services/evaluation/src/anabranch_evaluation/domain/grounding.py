"""Whether passages support an answer's sentences: shared words, weighted by how much they tell, and contradictions.

A sentence's support by a passage is the IDF-weighted share of its stems that the best window of the passage's
sentences holds (IDF over the sentences at hand). A number, a negation or a name in the sentence that this window
does not bear out is a contradiction, and halves what support there is.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

SCORER_VERSION: Final = "gr-1"
CONTRADICTED: Final = 0.5
_SENTENCE: Final = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9À-Þ])|\n+")
_WORD: Final = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_NUMBER: Final = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?%?")
_MARKER: Final = re.compile(r"\[\d+\]")
_NAME: Final = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-ZÀ-Þ][\w\u2019'-]{2,}")
_NEGATIONS: Final = frozenset(
    ("no", "not", "never", "none", "neither", "nor", "without", "cannot", "nobody", "nothing")
)
_STOP: Final = frozenset(
    (  # noqa: SIM905  sixty quoted words are no easier to read
        "a an and are as at be been being but by did do does for from had has have he her his how i in into is it its "
        "me my of on or our she so than that the their them then there these they this those to us was we were what "
        "when where which who whom why will with would you your"
    ).split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """How well passages support one sentence; `passage` is the place of the best, -1 for none."""

    text: str
    support: float
    passage: int
    contradictions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounding:
    """An answer's groundedness, 0 to 1: the mean over its sentences, weighted by their lengths in words."""

    score: float
    sentences: Sequence[Support]


def sentences_of(text: str) -> list[str]:
    """The sentences, without citation markers."""
    parts = (part.strip() for part in _SENTENCE.split(_MARKER.sub("", text)))
    return [part for part in parts if _WORD.search(part)]


def stems(text: str) -> list[str]:
    """Content words, folded, with common endings cut."""
    return [_stem(word) for word in (found.lower() for found in _WORD.findall(text)) if word not in _STOP]


def groundedness(answer: str, contexts: Sequence[str]) -> Grounding:
    """The support of each of the answer's sentences. No sentence: a score of 0."""
    windows = [
        (place, window, frozenset(stems(window)))
        for place, context in enumerate(contexts)
        for window in _windows(sentences_of(context))
    ]
    weight = _weights([words for _, _, words in windows])
    found: list[Support] = []
    lengths: list[int] = []
    for sentence in sentences_of(answer):
        found.append(_best(sentence, windows, weight))
        lengths.append(len(_WORD.findall(sentence)))
    total = sum(lengths)
    score = (
        math.fsum(one.support * length for one, length in zip(found, lengths, strict=True)) / total if total else 0.0
    )
    return Grounding(score=score, sentences=found)


def relevance(question: str, text: str) -> float:
    """Share of the question's content words that the text speaks of, 0 to 1."""
    asked = set(stems(question))
    return len(asked & set(stems(text))) / len(asked) if asked else 0.0


def _windows(sentences: Sequence[str]) -> list[str]:
    """Each sentence, and each with its follower: an answer's sentence may draw on two."""
    return [*sentences, *(f"{one} {two}" for one, two in pairwise(sentences))]


def _weights(windows: Sequence[frozenset[str]]) -> Mapping[str, float]:
    counts = Counter(word for words in windows for word in words)
    return {word: math.log1p(len(windows) / count) for word, count in counts.items()}


def _best(sentence: str, windows: Sequence[tuple[int, str, frozenset[str]]], weight: Mapping[str, float]) -> Support:
    words = sorted(set(stems(sentence)))
    unknown = max(weight.values(), default=1.0)
    whole = math.fsum(weight.get(word, unknown) for word in words)
    best, place, text = 0.0, -1, ""
    for at, window, held in windows:
        share = math.fsum(weight[word] for word in words if word in held) / whole if whole else 0.0
        if share > best:
            best, place, text = share, at, window
    against = _contradictions(sentence, text) if best > 0 else ()
    support = best * CONTRADICTED if against else best
    return Support(text=sentence, support=support, passage=place, contradictions=against)


def _contradictions(sentence: str, window: str) -> tuple[str, ...]:
    found: list[str] = []
    if _numbers(sentence) - _numbers(window):
        found.append("number")
    if _negated(sentence) != _negated(window):
        found.append("negation")
    known = {word.lower() for word in _WORD.findall(window)}
    if any(name.lower() not in known for name in _WORD.findall(" ".join(_NAME.findall(sentence)))):
        found.append("name")
    return tuple(found)


def _numbers(text: str) -> set[str]:
    return {found.replace(",", "").lstrip("+").rstrip("%") for found in _NUMBER.findall(text)}


def _negated(text: str) -> bool:
    words = [word.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'") for word in _WORD.findall(text)]
    return bool(sum(word in _NEGATIONS or word.endswith("n't") for word in words) % 2)


def _stem(word: str) -> str:
    for ending in ("ingly", "edly", "ing", "ies", "ied", "es", "ed", "ly", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:  # noqa: PLR2004  shorter is no stem
            return word[: -len(ending)]
    return word
