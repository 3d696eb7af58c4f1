"""What a search found, and the ranking that is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage that was found, best first; `passage` is carried to the writer of answers, not looked into."""

    document_id: str
    chunk_id: str
    text: str
    passage: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A search's result. `reranker` is the one that was applied, empty for none."""

    hits: Sequence[Hit]
    index_generation: int
    reranker: str
    latency: timedelta


def ranking(hits: Sequence[Hit], *, of_chunks: bool) -> list[str]:
    """The ids in rank order, each once: a document stands where the best of its chunks does."""
    identity: Callable[[Hit], str] = (lambda hit: hit.chunk_id) if of_chunks else (lambda hit: hit.document_id)
    return list(dict.fromkeys(identity(hit) for hit in hits))
