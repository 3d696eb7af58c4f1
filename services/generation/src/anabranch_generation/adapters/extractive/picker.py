"""Which sentences answer a question, and how well they do. The learned weights stand in coefficients.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anabranch_generation.adapters.extractive import features
from anabranch_generation.adapters.extractive.features import Candidate, Rows
from anabranch_generation.adapters.extractive.question import Question
from anabranch_generation.domain import Passage

Vector = NDArray[np.float64]

SECOND: Final = (
    "gap",
    "before",
    "after",
    "same_passage",
    "new_terms",
    "redundant",
    "similarity",
    "fit",
)
SUPPORT: Final = (
    "similarity",
    "best_similarity",
    "similarity_spread",
    "coverage",
    "coverage_with_title",
    "best_coverage_with_before",
    "passage_coverage",
    "best_passage_coverage",
    "missing",
    "fit",
    "pairs",
    "near",
    "names",
    "share",
    "share_of_two",
    "score",
    "mean_score",
    "terms",
)
_SURE: Final = 0.95  # share of the belief from which on the best sentence stands alone; costs no answer (CARD.md)
_SAME: Final = 0.8  # Jaccard of stems from which on a sentence says the same again


@dataclass(frozen=True, slots=True)
class Weights:
    """Coefficients for one situation: sentence similarities known, or not."""

    first: Vector
    second: Vector
    support: Vector
    bias: float

    @classmethod
    def of(cls, raw: Mapping[str, Mapping[str, float]]) -> Weights:
        """From the names in the file; a name left out weighs nothing."""

        def vector(part: str, names: Sequence[str]) -> Vector:
            return np.array([raw[part].get(name, 0.0) for name in names])

        return cls(
            vector("first", features.NAMES),
            vector("second", SECOND),
            vector("support", SUPPORT),
            float(raw["support"]["bias"]),
        )


@dataclass(frozen=True, slots=True)
class Model:
    """The weights of both situations and the support below which nothing is answered."""

    version: str
    with_similarity: Weights
    without_similarity: Weights
    abstain_below: float


@lru_cache(maxsize=1)
def shipped() -> Model:
    """The model in coefficients.json."""
    raw = json.loads(files(__package__).joinpath("coefficients.json").read_text("utf-8"))
    return Model(
        raw["version"],
        Weights.of(raw["with_similarity"]),
        Weights.of(raw["without_similarity"]),
        float(raw["abstain_below"]),
    )


@dataclass(frozen=True, slots=True)
class Picked:
    """A sentence chosen, with its share of the model's belief among all candidates."""

    candidate: Candidate
    share: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The sentences chosen, best first, and the support of the answer they make, 0 to 1."""

    picked: tuple[Picked, ...]
    support: float


def choose(question: Question, passages: Sequence[Passage], *, most: int, model: Model | None = None) -> Choice:
    """Up to `most` sentences, one when it leaves no doubt. No sentence at all: support 0."""
    found = features.candidates(passages)
    if not found:
        return Choice((), 0.0)
    model = model or shipped()
    known = any(c.similarity is not None for c in found)
    weights = model.with_similarity if known else model.without_similarity
    rows = features.rows(question, passages, found)
    scores = rows @ weights.first
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    order = [int(np.argmax(scores))]
    if shares[order[0]] >= _SURE:
        most = 1
    while len(order) < min(most, len(found)):
        gains = second_rows(question, found, rows, scores, order) @ weights.second
        gains[[i for i, c in enumerate(found) if any(_alike(c, found[j]) for j in order)]] = -np.inf
        best = int(np.argmax(gains))
        if np.isneginf(gains[best]):
            break
        order.append(best)
    row = support_row(question, found, rows, scores)
    support = 1.0 / (1.0 + float(np.exp(-(row @ weights.support + weights.bias))))
    return Choice(tuple(Picked(found[i], float(shares[i])) for i in order), support)


def second_rows(
    question: Question, found: Sequence[Candidate], rows: Rows, scores: Vector, order: Sequence[int]
) -> Rows:
    """One row per candidate: what it would add to the sentences chosen so far."""
    first = found[order[0]]
    have: set[str] = set()
    for i in order:
        have |= found[i].sentence.stems
    have_terms = have & question.terms.keys()
    at = {(found[i].passage, found[i].position) for i in order}
    similarity, fit = features.NAMES.index("similarity"), features.NAMES.index("fit")
    out = np.zeros((len(found), len(SECOND)))
    for i, c in enumerate(found):
        stems = c.sentence.stems
        new = sum(question.terms[t] for t in (stems & question.terms.keys()) - have_terms)
        out[i] = (
            scores[i] - scores[order[0]],
            (c.passage, c.position + 1) in at,
            (c.passage, c.position - 1) in at,
            c.passage == first.passage,
            new / question.weight,
            len(stems & have) / max(1, len(stems)),
            rows[i, similarity],
            rows[i, fit],
        )
    return out


def _alike(one: Candidate, other: Candidate) -> bool:
    """The same sentence, or one that says the same again."""
    if one is other:
        return True
    a, b = one.sentence.stems, other.sentence.stems
    both = len(a & b)
    return both >= _SAME * max(1, len(a) + len(b) - both)


def support_row(question: Question, found: Sequence[Candidate], rows: Rows, scores: Vector) -> Vector:
    """What tells whether the passages hold an answer at all."""
    best = int(np.argmax(scores))
    at = features.NAMES.index
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    similarities = rows[:, at("similarity")]
    seen: set[str] = set()
    for c in found:
        seen |= c.sentence.stems & question.terms.keys()
    missing = sum(weight for term, weight in question.terms.items() if term not in seen) / question.weight
    row = rows[best]
    return np.array(
        [
            row[at("similarity")],
            similarities.max(),
            similarities.max() - similarities.mean(),
            row[at("coverage")],
            row[at("coverage_with_title")],
            rows[:, at("coverage_with_before")].max(),
            row[at("coverage_passage")],
            rows[:, at("coverage_passage")].max(),
            missing,
            row[at("fit")],
            row[at("pairs")],
            row[at("near")],
            row[at("names")],
            shares[best],
            np.sort(shares)[-2:].sum(),
            scores[best],
            scores.mean(),
            np.log1p(len(question.terms)),
        ]
    )
