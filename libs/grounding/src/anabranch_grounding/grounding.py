"""Whether passages support an answer's sentences: by words, by meaning, and by what contradicts them.

Words: the IDF-weighted share of a sentence's stems that three sentences of one passage hold (IDF over the sentences at
hand). Meaning: its cosine with the passage's nearest sentence. Contradictions: a number or a name that neither those
nor the nearest bear out takes its share of half the support; a negation that turns a sentence's twin around takes
half. Without vectors words alone are compared, and the version says which it was.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from anabranch_grounding.meaning import Meaning

SCORER_VERSION: Final = "gr-2"
CONTRADICTED: Final = 0.5
"""What is left of the support of a sentence whose facts are all borne out by nothing."""
MEANING: Final = 0.4
"""The weight of meaning beside that of words."""
SENTENCES: Final = 3
"""Of one passage, that a sentence may be drawn from."""
TWIN: Final = 0.6
"""Support by one sentence's words from which it speaks of the same, so that a negation turns it around."""
_KEPT: Final = 8_192
"""Characters of a passage that is remembered; longer ones are read anew."""
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


def version_of(embedding: str | None) -> str:
    """Of the scorer with an embedding version, None for words alone: equal input and version, equal scores."""
    return SCORER_VERSION if embedding is None else f"{SCORER_VERSION}+{embedding}"


def groundedness(answer: str, contexts: Sequence[str], meaning: Meaning | None = None) -> Grounding:
    """The support of each of the answer's sentences. No sentence: a score of 0."""
    passages = [
        _Passage(place=place, sentences=read.sentences, stems=read.stems)
        for place, read in enumerate(map(_read, contexts))
        if read.sentences
    ]
    weight = _weights([words for passage in passages for words in passage.stems])
    found: list[Support] = []
    lengths: list[int] = []
    for sentence in sentences_of(answer):
        found.append(_best(sentence, passages, weight, meaning))
        lengths.append(len(_WORD.findall(sentence)))
    total = sum(lengths)
    score = (
        math.fsum(one.support * length for one, length in zip(found, lengths, strict=True)) / total if total else 0.0
    )
    return Grounding(score=score, sentences=found)


def relevance(question: str, text: str, meaning: Meaning | None = None) -> float:
    """Whether the text speaks of what was asked, 0 to 1.

    The share of the question's content words that it holds; with vectors, the mean of that and of the question's
    cosine with the text's nearest sentence.
    """
    asked = set(stems(question))
    share = len(asked & set(stems(text))) / len(asked) if asked else 0.0
    if meaning is None:
        return share
    return (share + max(meaning.cosines(question, sentences_of(text)), default=0.0)) / 2


@dataclass(frozen=True, slots=True)
class _Read:
    sentences: Sequence[str]
    stems: Sequence[frozenset[str]]


def _read(text: str) -> _Read:
    return _remembered(text) if len(text) <= _KEPT else _read_now(text)


def _read_now(text: str) -> _Read:
    sentences = sentences_of(text)
    return _Read(sentences, [frozenset(stems(sentence)) for sentence in sentences])


_remembered = lru_cache(maxsize=1_024)(_read_now)
"""Passages come again, with other answers and sentence by sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passage:
    place: int
    sentences: Sequence[str]
    stems: Sequence[frozenset[str]]


def _weights(sentences: Sequence[frozenset[str]]) -> Mapping[str, float]:
    counts = Counter(word for words in sentences for word in words)
    return {word: math.log1p(len(sentences) / count) for word, count in counts.items()}


def _best(sentence: str, passages: Sequence[_Passage], weight: Mapping[str, float], meaning: Meaning | None) -> Support:
    words = sorted(set(stems(sentence)))
    unknown = max(weight.values(), default=1.0)
    whole = math.fsum(weight.get(word, unknown) for word in words)
    best, place = 0.0, -1
    against: tuple[str, ...] = ()
    for passage in passages:
        support, contradictions = _support(sentence, words, whole, passage, weight, meaning)
        if support > best:
            best, place, against = support, passage.place, contradictions
    return Support(text=sentence, support=best, passage=place, contradictions=against)


def _support(  # noqa: PLR0917  each is one thing that support is drawn from
    sentence: str,
    words: Sequence[str],
    whole: float,
    passage: _Passage,
    weight: Mapping[str, float],
    meaning: Meaning | None,
) -> tuple[float, tuple[str, ...]]:
    first, share = _holding_most(words, passage, weight)
    chosen, covered, left, last = {first}, share, words, first
    for _ in range(SENTENCES - 1):
        left = [word for word in left if word not in passage.stems[last]]
        last, more = _holding_most(left, passage, weight)
        if more <= 0:
            break
        chosen.add(last)
        covered += more
    covered = min(covered / whole, 1.0) if whole else 0.0
    support = covered
    if meaning is not None:
        cosines = meaning.cosines(sentence, passage.sentences)
        nearest = max(range(len(cosines)), key=lambda at: (cosines[at], -at))
        support = (1 - MEANING) * covered + MEANING * cosines[nearest]
        chosen.add(nearest)
    if not support:
        return 0.0, ()
    window = " ".join(passage.sentences[at] for at in sorted(chosen))
    missing, facts, against = _facts(sentence, window)
    if facts:
        support *= 1 - (1 - CONTRADICTED) * missing / facts
    twin = whole > 0 and share / whole >= TWIN
    if twin and _negated(sentence) != _negated(passage.sentences[first]):
        support *= CONTRADICTED
        against = (*against, "negation")
    return support, against


def _holding_most(words: Sequence[str], passage: _Passage, weight: Mapping[str, float]) -> tuple[int, float]:
    """The passage's sentence that holds most of the words by weight, the first of equals, and that weight."""
    best, place = -1.0, 0
    for at, held in enumerate(passage.stems):
        share = math.fsum(weight[word] for word in words if word in held)
        if share > best:
            best, place = share, at
    return place, best


def _facts(sentence: str, window: str) -> tuple[int, int, tuple[str, ...]]:
    """How many of the sentence's numbers and names the window lacks, how many there are, and of which kinds."""
    numbers = _numbers(sentence)
    names = {name.lower() for name in _WORD.findall(" ".join(_NAME.findall(sentence)))}
    lost_numbers = numbers - _numbers(window)
    lost_names = names - {word.lower() for word in _WORD.findall(window)}
    kinds = (*(("number",) if lost_numbers else ()), *(("name",) if lost_names else ()))
    return len(lost_numbers) + len(lost_names), len(numbers) + len(names), kinds


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
