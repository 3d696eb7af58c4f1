"""The ranking features `rf-1`: what a reranker sees of each candidate of a search.

Computed here and nowhere else; training gets them with the answers they belonged to. Any change of what is computed is
another feature set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from anabranch_retrieval.domain.documents import Chunk
from anabranch_retrieval.domain.results import Hit, cosines

FEATURE_SET: Final = "rf-1"
FEATURES: Final = (
    "dense",  # cosine, 0 where the vector half did not find it
    "bm25",  # raw, 0 where the keyword half did not find it
    "fused",
    "dense_minmax",  # over the candidates that have a cosine; 0 for the others
    "bm25_minmax",
    "reciprocal_rank",  # 1 / place in the fused order
    "best_sentence",  # highest cosine of a sentence with the query, 0 where none is known
    "second_sentence",
    "overlap",  # share of the query's terms in the text, weighed by their rarity among the candidates
    "best_sentence_overlap",  # the same, in the one sentence that has most
    "bigram_overlap",  # share of the query's neighbouring pairs of terms in the text
    "title_overlap",  # share of the query's terms in title and headings
    "length",  # log(1 + words)
    "freshness",  # log(1 + days since the source changed), 0 where that is unknown
    "dense_rank",  # 1 / place by cosine, 0 without one
    "bm25_rank",
)
CANDIDATES: Final = 50  # the best of the fused search; features and reranking are over these

Terms = Callable[[str], Sequence[int]]  # text to its terms in order, each a number below 2**32; the same everywhere
_DAY: Final = 86_400.0
_WORDS_BITS: Final = np.uint64(32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Words:
    """A chunk as terms: made once, kept while its chunk is asked for. About 1 KiB, in as few pieces as can be: what
    features cost is mostly the memory that is gone through.
    """  # noqa: D205  one paragraph

    terms: NDArray[np.uint32]  # of title and headings, then of the text
    sizes: NDArray[np.int64]  # terms of title and headings, then of each stretch: a sentence, or what lies between two
    length: float


def words_of(chunk: Chunk, terms: Terms) -> Words:
    """The terms of a chunk. `terms` may return none for a stretch without words."""
    text, at = chunk.text, 0
    above = " ".join((chunk.title, *chunk.title_path))
    found = list(terms(above)) if above and not above.isspace() else []
    sizes = [len(found)]
    for start, end in (*chunk.sentences, (len(text), len(text))):
        for stretch in (text[at:start], text[start:end]):
            if stretch and not stretch.isspace():
                some = terms(stretch)
                found += some
                sizes.append(len(some))
        at = end
    return Words(
        terms=np.array(found, dtype=np.uint32),
        sizes=np.array(sizes, dtype=np.int64),
        length=math.log1p(len(text.split())),
    )


def features_of(
    hits: Sequence[Hit],
    words: Sequence[Words],
    *,
    query: Sequence[int],
    vector: NDArray[np.float32],
    now: datetime,
    wanted: Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """One row for each hit, one column for each of FEATURES; hits in fused order, `words` in the order of hits.

    query: its terms. vector: float32, norm 1. wanted: rows to compute, of all hits' where it is None; a row is the same
    whichever others are wanted. Pure, about 0.5 ms for 50 paragraphs.
    """
    places = np.arange(len(hits)) if wanted is None else np.array(wanted, dtype=np.intp)
    rows = np.zeros((places.size, len(FEATURES)), dtype=np.float64)
    if not places.size:
        return rows.astype(np.float32)
    some = hits if wanted is None else [hits[place] for place in wanted]
    dense, dense_minmax, dense_rank = _half([hit.found.vector_score for hit in hits])
    bm25, bm25_minmax, bm25_rank = _half([hit.found.keyword_score for hit in hits])
    best, second = _sentences(some, vector)
    columns = (
        dense[places],
        bm25[places],
        np.array([hit.found.score for hit in some]),
        dense_minmax[places],
        bm25_minmax[places],
        1.0 / (places + 1),
        best,
        second,
        *_overlaps(np.array(query, dtype=np.uint32), words, places),
        np.array([words[place].length for place in places]),
        np.array([_age(hit.chunk.changed_at, now) for hit in some]),
        dense_rank[places],
        bm25_rank[places],
    )
    for number, column in enumerate(columns):
        rows[:, number] = column
    return rows.astype(np.float32)


def _half(scores: Sequence[float | None]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Scores of one half, the same scaled to 0..1, and 1 / place in its order; 0 where it did not find the hit."""
    found = np.array([score is not None for score in scores])
    raw = np.array([0.0 if score is None else score for score in scores])
    scaled, places = np.zeros(len(scores)), np.zeros(len(scores))
    if found.any():
        low, high = raw[found].min(), raw[found].max()
        scaled[found] = (raw[found] - low) / (high - low) if high > low else 1.0
        order = np.argsort(-raw[found], kind="stable")
        place = np.empty(order.size)
        place[order] = 1.0 / np.arange(1, order.size + 1)
        places[found] = place
    return raw, scaled, places


def _sentences(hits: Sequence[Hit], vector: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two highest cosines of each hit's sentences with the query."""
    known = [
        len(hit.chunk.sentences)
        if hit.sentence_vectors and len(hit.sentence_vectors) == len(hit.chunk.sentences) * vector.size
        else 0
        for hit in hits
    ]
    most = max(known)
    if not most:
        return np.zeros(len(hits)), np.zeros(len(hits))
    raw = b"".join(hit.sentence_vectors for hit, count in zip(hits, known, strict=True) if count)
    counts = np.array(known)
    owners = np.repeat(np.arange(len(hits)), counts)
    place = np.arange(owners.size) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((len(hits), max(most, 2)), -np.inf)
    table[owners, place] = cosines(raw, vector)
    two = np.partition(table, table.shape[1] - 2, axis=1)[:, -2:]
    two[np.isneginf(two)] = 0.0
    second, best = two[:, 0].copy(), two[:, 1]
    return best, second


def _overlaps(
    query: NDArray[np.uint32], words: Sequence[Words], places: NDArray[np.intp]
) -> tuple[NDArray[np.float64], ...]:
    """overlap, best_sentence_overlap, bigram_overlap and title_overlap of those at `places`."""
    count = len(words)
    unique = np.unique(query)
    if not unique.size:
        return (np.zeros(places.size),) * 4
    terms = np.concatenate([one.terms for one in words])
    sizes = np.concatenate([one.sizes for one in words])
    ends = np.cumsum([one.sizes.size for one in words])
    first = np.concatenate(([0], ends[:-1]))  # the stretch that is title and headings, of each candidate
    stretches = np.repeat(np.arange(sizes.size), sizes)
    held, at = _found(terms, unique)
    within = np.zeros((sizes.size, unique.size))
    within[stretches[held], at] = 1.0
    above = within[first[places]].mean(axis=1)
    within[first] = 0.0
    present = np.maximum.reduceat(within, first, axis=0)
    holders = present.sum(axis=0)
    rarity = np.log1p((count - holders + 0.5) / (holders + 0.5))
    rarity /= rarity.sum()
    best = np.maximum.reduceat((within * rarity).sum(axis=1), first)[places]
    overlap = (present[places] * rarity).sum(axis=1)
    if places.size < count:
        terms = np.concatenate([words[place].terms for place in places])
        sizes = np.concatenate([words[place].sizes for place in places])
        ends = np.cumsum([words[place].sizes.size for place in places])
        first = np.concatenate(([0], ends[:-1]))
        stretches = np.repeat(np.arange(sizes.size), sizes)
    owners = np.searchsorted(ends, stretches, side="right")
    inside = stretches != first[owners]  # in the text, not in what stands above it
    return overlap, best, _bigrams(query, terms, owners, inside, places.size), above


def _bigrams(
    query: NDArray[np.uint32],
    terms: NDArray[np.uint32],
    owners: NDArray[np.int64],
    inside: NDArray[np.bool_],
    count: int,
) -> NDArray[np.float64]:
    if query.size < 2 or terms.size < 2:  # noqa: PLR2004  a pair
        return np.zeros(count)
    wanted = np.unique(_pairs(query))
    held, at = _found(_pairs(terms), wanted)
    whole = inside[held] & (owners[held] == owners[held + 1])
    present = np.zeros((count, wanted.size))
    present[owners[held[whole]], at[whole]] = 1.0
    return np.asarray(present.mean(axis=1))


def _pairs(terms: NDArray[np.uint32]) -> NDArray[np.uint64]:
    wide = terms.astype(np.uint64)
    return (wide[:-1] << _WORDS_BITS) | wide[1:]


def _found(
    values: NDArray[np.uint32] | NDArray[np.uint64], among: NDArray[np.uint32] | NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of the values are among the sorted ones, and where there."""
    at = np.searchsorted(among, values)
    at[at == among.size] = 0
    held = np.flatnonzero(among[at] == values)
    return held, at[held]


def _age(changed_at: datetime | None, now: datetime) -> float:
    return 0.0 if changed_at is None else math.log1p(max((now - changed_at).total_seconds(), 0.0) / _DAY)
