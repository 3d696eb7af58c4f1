"""A question to the index and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from anabranch_faults import Invalid, TooLarge
from anabranch_retrieval.domain.documents import Chunk, CorpusKey
from anabranch_retrieval.domain.fusion import Scored

MAX_QUERY = 4_096
MAX_TOP_K = 100
_INT8 = 127.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """What the variant decides.

    alpha: weight of the vector half; embedding_version: empty for the current one; reranker_version: empty for none.
    """

    alpha: float = 0.5
    top_k: int = 5
    embedding_version: str = ""
    reranker_version: str = ""
    keep_duplicates: bool = False

    def __post_init__(self) -> None:
        """Refuses values out of range."""
        if not 0 <= self.alpha <= 1:
            raise Invalid("must be 0 to 1", field="settings.alpha", reason="OUT_OF_RANGE")
        if not 1 <= self.top_k <= MAX_TOP_K:
            raise Invalid(f"must be 1 to {MAX_TOP_K}", field="settings.top_k", reason="OUT_OF_RANGE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One search by one reader.

    filters: all must match the document's metadata. acl: the reader's labels. document_ids: only these, when given.
    with_features: passages bring their ranking features. with_sentences: and their sentences.
    with_query_vector: the answer brings the query's vector.
    """

    corpus: CorpusKey
    text: str
    settings: SearchSettings
    filters: Mapping[str, str] = field(default_factory=dict)
    acl: tuple[str, ...] = ()
    document_ids: tuple[str, ...] = ()
    with_features: bool = False
    with_sentences: bool = True
    with_query_vector: bool = False

    def __post_init__(self) -> None:
        """Refuses a blank or over-long query."""
        if not self.text.strip():
            raise Invalid("must not be blank", field="query", reason="BLANK")
        if len(self.text) > MAX_QUERY:
            raise TooLarge(f"{len(self.text)} characters; at most {MAX_QUERY}", field="query", reason="TOO_LONG")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Search:
    """What the index is asked. vector: float32, norm 1. limit: hits wanted, best first."""

    text: str
    vector: NDArray[np.float32]
    alpha: float
    limit: int
    filters: Mapping[str, str] = field(default_factory=dict)
    acl: tuple[str, ...] = ()
    document_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A chunk the index found, with what a reader is shown of it."""

    found: Scored
    chunk: Chunk
    sentence_vectors: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A sentence of a passage: offsets into its text, and its cosine with the query where one is known."""

    start: int
    end: int
    similarity: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A hit as the reader gets it. features: in the order of FEATURES; none where not asked for, or not a candidate."""

    hit: Hit
    sentences: tuple[Sentence, ...]
    rerank_score: float | None = None
    features: tuple[float, ...] = ()


def sentences_of(hit: Hit, query: NDArray[np.float32]) -> tuple[Sentence, ...]:
    """The hit's sentences, and how close each is to the query vector (float32, norm 1)."""
    spans = hit.chunk.sentences
    similarities: list[float | None] = [None] * len(spans)
    if hit.sentence_vectors and len(hit.sentence_vectors) == len(spans) * query.size:
        similarities = cosines(hit.sentence_vectors, query).tolist()
    return tuple(
        Sentence(start=start, end=end, similarity=similarity)
        for (start, end), similarity in zip(spans, similarities, strict=True)
    )


def quantised(vector: NDArray[np.float32]) -> bytes:
    """A unit vector (float32) as int8, times 127: the form in which sentence vectors are kept, too."""
    rounded: NDArray[np.int8] = np.rint(vector * _INT8).clip(-_INT8, _INT8).astype(np.int8)
    return rounded.tobytes()


def cosines(rows: bytes, query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosines of int8 rows (norm 127, rounded) with the query vector (float32, norm 1), -1 to 1."""
    matrix = np.frombuffer(rows, dtype=np.int8).reshape(-1, query.size)
    # Not `@`: a row's cosine must not depend on which others are asked for, nor wait for threads of a library.
    found: NDArray[np.float32] = np.einsum("ij,j->i", matrix.astype(np.float32), query) / _INT8
    return found.clip(-1.0, 1.0)
