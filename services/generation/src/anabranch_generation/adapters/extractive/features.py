"""Numbers that tell whether a sentence answers a question. One row per candidate sentence, columns as in NAMES."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anabranch_generation.adapters.extractive.question import Question, Wanted
from anabranch_generation.adapters.extractive.shapes import Shapes, fits
from anabranch_generation.adapters.extractive.text import STOP, bigrams, compounds, field, sentences, words
from anabranch_generation.domain import Passage
from anabranch_generation.domain.vocabulary import vocabulary

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Analysed:
    """A sentence, read."""

    start: int
    end: int
    stems: frozenset[str]
    order: tuple[str, ...]
    pairs: frozenset[tuple[str, str]]
    shapes: Shapes
    size: int
    pronoun: bool
    key: frozenset[str]
    value: frozenset[str]
    # The heading that stands in the passage's text above the sentence, and whether directly above.
    section: frozenset[str]
    opens_section: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence of a passage, with its place in both."""

    passage: int
    position: int
    sentence: Analysed
    similarity: float | None


_PRONOUNS: Final = vocabulary(
    "he she it they this these that those his her its their the such",
)
_ABOVE: Final = 8  # sentences above a group of fields that may name what it is about
_CACHE_SIZE: Final = 1024  # passages: about 25 MB
_cache: OrderedDict[tuple[str, tuple[tuple[int, int], ...]], tuple[Analysed, ...]] = OrderedDict()


def analyse(text: str, spans: Sequence[tuple[int, int]]) -> tuple[Analysed, ...]:
    """The sentences of a passage, read; kept for the next question on the same passage."""
    key = (text, tuple(spans))
    kept = _cache.get(key)
    if kept is not None:
        _cache.move_to_end(key)
        return kept
    section: frozenset[str] = frozenset()
    at, found = 0, []
    for start, end in spans or sentences(text):
        # Chunks hold their headings, and no sentence covers them.
        heading = _heading(text[at:start]) if start > at else frozenset()
        section = heading or section
        found.append(_sentence(text, start, end, section, opens=bool(heading)))
        at = end
    read = tuple(found)
    _cache[key] = read
    if len(_cache) > _CACHE_SIZE:
        _cache.popitem(last=False)
    return read


def _heading(gap: str) -> frozenset[str]:
    found = words(gap)
    if not any(len(w.raw) > 1 and not w.number for w in found):
        return frozenset()  # a list's marker
    return frozenset(w.stem for w in found) | compounds(gap)


def _sentence(text: str, start: int, end: int, section: frozenset[str], *, opens: bool) -> Analysed:
    part = text[start:end]
    found = words(part)
    content = tuple(w.stem for w in found if w.low not in STOP)
    pair = field(part)
    return Analysed(
        start,
        end,
        frozenset(content) | compounds(part),
        content,
        bigrams(content),
        Shapes(part, found),
        len(found),
        bool(found) and found[0].low in _PRONOUNS,
        frozenset(w.stem for w in words(pair[0])) if pair else frozenset(),
        frozenset(w.stem for w in words(pair[1])) if pair else frozenset(),
        section,
        opens,
    )


def candidates(passages: Sequence[Passage]) -> list[Candidate]:
    """All sentences that hold a word, in the order of passages and text."""
    found = []
    for number, passage in enumerate(passages):
        similarity = {(s.start, s.end): s.similarity for s in passage.sentences}
        read = analyse(passage.text, tuple(similarity))
        found += [
            Candidate(number, position, sentence, similarity.get((sentence.start, sentence.end)))
            for position, sentence in enumerate(read)
            if sentence.size
        ]
    return found


NAMES: Final = (
    "similarity",
    "similarity_to_best",
    "no_similarity",
    "coverage",
    "coverage_idf",
    "coverage_with_title",
    "coverage_with_before",
    "coverage_of_pronoun_after",
    "coverage_passage",
    "rare_hit",
    "pairs",
    "names",
    "fit",
    "fit_x_coverage",
    "fit_x_similarity",
    "near",
    "rank",
    "rank_first",
    "first",
    "length",
    "short",
    "pronoun",
    "defines_x_definition",
    "focus",
    "new_words",
    "passage_names",
    "field",
    "field_anchored",
)


def rows(question: Question, passages: Sequence[Passage], found: Sequence[Candidate]) -> Rows:
    """One row of features per candidate."""
    size = len(found)
    counts: dict[str, int] = dict.fromkeys(question.terms, 0)
    for candidate in found:
        for term in counts.keys() & candidate.sentence.stems:
            counts[term] += 1
    idf = {t: w * math.log((size + 1) / (counts[t] + 0.5)) for t, w in question.terms.items()}
    total = question.weight
    # A term that stands nowhere helps nothing to choose between sentences.
    total_idf = sum(v for t, v in idf.items() if counts[t]) or 1.0
    present = [t for t in idf if counts[t]]
    rarest = max(present, key=idf.__getitem__) if present else ""
    titles = [_title(p) for p in passages]
    names = question.names or frozenset(question.terms)
    of_passage: dict[int, set[str]] = {}
    for candidate in found:
        s = candidate.sentence
        of_passage.setdefault(candidate.passage, set()).update((s.stems | s.section) & question.terms.keys())
    known = [c.similarity for c in found if c.similarity is not None]
    best = max(known, default=0.0)
    out = np.zeros((size, len(NAMES)))
    before: Candidate | None = None
    for i, c in enumerate(found):
        s = c.sentence
        hit = question.terms.keys() & s.stems
        weight = sum(question.terms[t] for t in hit)
        coverage = weight / total
        with_title = hit | (question.terms.keys() & (titles[c.passage] | s.section))
        near_before = before is not None and before.passage == c.passage
        with_before = with_title | (
            (question.terms.keys() & before.sentence.stems) if before and near_before else set()
        )
        fit = fits(s.shapes, question)
        sim = c.similarity if c.similarity is not None else 0.0
        cov_title = sum(question.terms[t] for t in with_title) / total
        out[i] = (
            sim,
            sim - best if c.similarity is not None else 0.0,
            c.similarity is None,
            coverage,
            sum(idf[t] for t in hit) / total_idf,
            cov_title,
            sum(question.terms[t] for t in with_before) / total,
            _pronoun_after(question, found, i) / total,
            sum(question.terms[t] for t in of_passage[c.passage] | (question.terms.keys() & titles[c.passage])) / total,
            rarest in s.stems,
            len(question.pairs & s.pairs) / max(1, len(question.pairs)),
            len(question.names & s.stems) / len(question.names) if question.names else 0.0,
            fit,
            fit * cov_title,
            fit * max(0.0, sim),
            _near(s.order, hit),
            c.passage,
            c.passage == 0,
            c.position == 0,
            math.log1p(s.size),
            s.size < 6,  # noqa: PLR2004  shorter than an English clause
            s.pronoun,
            s.shapes.defines and question.wanted is Wanted.DEFINITION,
            question.focus in s.stems,
            math.log1p(len(s.stems - question.stems)),
            len(names & (of_passage[c.passage] | titles[c.passage])) / max(1, len(names)),
            *_field(question, found, i, titles[c.passage]),
        )
        before = c
    return out


def _pronoun_after(question: Question, found: Sequence[Candidate], i: int) -> float:
    """Weight of the terms in the next sentence, where that one speaks of this one by a pronoun."""
    if i + 1 >= len(found) or found[i + 1].passage != found[i].passage or not found[i + 1].sentence.pronoun:
        return 0.0
    return sum(question.terms[t] for t in question.terms.keys() & found[i + 1].sentence.stems)


def _title(passage: Passage) -> frozenset[str]:
    """Stems of what stands above a passage; a document without a title has at least a name."""
    return _above(" ".join((passage.title or _name(passage.document.document_id), *passage.title_path)))


@lru_cache(maxsize=4096)
def _above(text: str) -> frozenset[str]:
    return frozenset(w.stem for w in words(text)) | compounds(text)


def _name(document_id: str) -> str:
    return document_id.rpartition("/")[2]


def _field(question: Question, found: Sequence[Candidate], i: int, title: frozenset[str]) -> tuple[float, float]:
    """Whether the sentence is a field that is asked for, and how surely it is one of the thing asked about.

    The thing is named by the title, by a field beside it, or by what stands above the group of fields.
    """
    sentence = found[i].sentence
    if not sentence.key & question.keys or not sentence.value - question.stems:
        return 0.0, 0.0
    fit = len(sentence.key & question.keys) / len(sentence.key)
    about = (question.names or frozenset(question.terms)) - sentence.key
    if not about:
        return fit, fit
    near = set(title | sentence.value | sentence.section)
    left = 0 if sentence.opens_section else _ABOVE
    for j in range(i - 1, -1, -1):
        before = found[j]
        if before.passage != found[i].passage or not left:
            break
        if not before.sentence.key:
            left -= 1
        elif left < _ABOVE:
            break  # the fields of the thing before
        near |= before.sentence.stems
        if before.sentence.opens_section:
            break
    return fit, fit * len(about & near) / len(about)


def _near(order: tuple[str, ...], hit: set[str]) -> float:
    """How closely the matched terms stand together, 0 to 1."""
    places = [i for i, s in enumerate(order) if s in hit]
    if len(places) < 2:  # noqa: PLR2004  one alone is near to nothing
        return 0.0
    return len(places) / (places[-1] - places[0] + 1)
