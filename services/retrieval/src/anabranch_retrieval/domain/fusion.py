"""Relative-score fusion: each half scaled to 0..1 over its candidates, then weighed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A chunk found. score: fused, 0 to 1; vector_score: cosine; keyword_score: BM25; None: not found by that half."""

    chunk_id: str
    score: float
    vector_score: float | None
    keyword_score: float | None


def fuse(vector: Mapping[str, float], keyword: Mapping[str, float], *, alpha: float) -> list[Scored]:
    """Fuses two maps of id to score (more is better), best first; ties by id, so the order is always the same.

    alpha: weight of the vector half, 0 to 1. A half of one candidate, or of equal ones, gives each of them 1.
    """
    by_vector, by_keyword = _relative(vector), _relative(keyword)
    fused = [
        Scored(
            chunk_id=candidate,
            score=alpha * by_vector.get(candidate, 0.0) + (1 - alpha) * by_keyword.get(candidate, 0.0),
            vector_score=vector.get(candidate),
            keyword_score=keyword.get(candidate),
        )
        for candidate in by_vector.keys() | by_keyword.keys()
    ]
    return sorted(fused, key=lambda scored: (-scored.score, scored.chunk_id))


def _relative(scores: Mapping[str, float]) -> dict[str, float]:
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    if high <= low:
        return dict.fromkeys(scores, 1.0)
    return {candidate: (score - low) / (high - low) for candidate, score in scores.items()}
