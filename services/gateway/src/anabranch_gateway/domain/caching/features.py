"""What the verifier looks at: two questions, and what was found for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from anabranch_gateway.domain.caching.wording import Wording, alike, opposed, synonyms, unmatched

FEATURES: Final = (
    "cosine",
    "word_jaccard",
    "content_jaccard",
    "unmatched_left",
    "unmatched_right",
    "longest_unmatched",
    "unmatched_share",
    "synonyms",
    "opposed",
    "numbers_differ",
    "negations_differ",
    "names_missing",
    "kind_differs",
    "kind_same_known",
    "order",
    "length_difference",
    "content_words",
    "same_chunks",
    "same_documents",
    "top_same",
    "best_sentence_same",
    "sentences_same",
    "cited_rank",
    "similarity_drop",
    "unmatched_in_passages",
)
_TOP: Final = 5


class DocumentKey(NamedTuple):
    """A document of a tenant."""

    tenant: str
    corpus: str
    document_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A passage that was found for a question: which, and how close.

    `sentence` is its best one's place, -1: unknown; `words` are the stems of its text.
    """

    document_id: str
    version: int
    chunk_id: str
    similarity: float
    sentence: int = -1
    words: frozenset[str] = field(default_factory=frozenset, repr=False)


def features(
    asked: Wording,
    known: Wording,
    *,
    cosine: float,
    now: Sequence[Source],
    then: Sequence[Source],
    cited: frozenset[str],
) -> list[float]:
    """How a question that is asked differs from one whose answer is known, in the order of FEATURES."""
    left, right = unmatched(asked.content, known.content)
    same = synonyms(left, right)
    size = len(asked.content) + len(known.content)
    mine, theirs = set(asked.words), set(known.words)
    ours, others = set(asked.content), set(known.content)
    chunks, before = [each.chunk_id for each in now[:_TOP]], [each.chunk_id for each in then[:_TOP]]
    documents, documents_before = {each.document_id for each in now[:_TOP]}, {each.document_id for each in then[:_TOP]}
    best = {each.chunk_id: each.sentence for each in then}
    common = [each for each in now if each.chunk_id in best]
    ranks = [rank for rank, each in enumerate(now) if each.chunk_id in cited]
    top = max(now, key=lambda each: each.similarity, default=None)
    was = max(then, key=lambda each: each.similarity, default=None)
    both_capitals = asked.capitals and known.capitals
    names_missing = sum(not any(alike(name, other) for other in known.content) for name in asked.names) + sum(
        not any(alike(name, other) for other in asked.content) for name in known.names
    )
    there = frozenset().union(*(each.words for each in now[:2])) if now else frozenset()
    return [
        cosine,
        _jaccard(mine, theirs),
        _jaccard(ours, others),
        len(left),
        len(right),
        max((len(word) for word in (*left, *right)), default=0),
        (len(left) + len(right)) / max(size, 1),
        same,
        opposed(set(asked.words) - theirs | set(left), set(known.words) - mine | set(right)),
        asked.numbers != known.numbers,
        asked.negations != known.negations,
        names_missing if both_capitals else names_missing / 2,
        asked.kind != known.kind,
        asked.kind == known.kind != "other",
        _order(asked.content, known.content),
        abs(len(asked.words) - len(known.words)),
        min(len(asked.content), len(known.content)),
        _jaccard(set(chunks), set(before)),
        _jaccard(documents, documents_before),
        chunks[:1] == before[:1],
        top is not None and was is not None and (top.chunk_id, top.sentence) == (was.chunk_id, was.sentence),
        sum(each.sentence == best[each.chunk_id] for each in common) / max(len(common), 1),
        min(ranks, default=_TOP),
        abs((top.similarity if top else 0.0) - (was.similarity if was else 0.0)),
        sum(word in there for word in (*left, *right)),
    ]


def _jaccard(left: set[str], right: set[str]) -> float:
    return len(left & right) / len(left | right) if left or right else 1.0


def _order(left: Sequence[str], right: Sequence[str]) -> float:
    """The share of the words of both that stand in the same order: 1 where nothing was turned around."""
    places = {word: at for at, word in reversed(list(enumerate(right)))}
    sequence = [places[word] for word in dict.fromkeys(left) if word in places]
    if len(sequence) < 2:  # noqa: PLR2004  fewer have no order
        return 1.0
    pairs = [(one, other) for at, one in enumerate(sequence) for other in sequence[at + 1 :]]
    return sum(one < other for one, other in pairs) / len(pairs)
