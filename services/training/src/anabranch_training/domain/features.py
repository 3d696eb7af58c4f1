"""The features of rf-1, in the order in which retrieval computes them."""

from __future__ import annotations

from typing import Final

__all__ = ["FEATURE_SET", "RF1"]

FEATURE_SET: Final = "rf-1"
RF1: Final = (
    "dense",
    "bm25",
    "fused",
    "dense_minmax",
    "bm25_minmax",
    "reciprocal_rank",
    "best_sentence",
    "second_sentence",
    "overlap",
    "best_sentence_overlap",
    "bigram_overlap",
    "title_overlap",
    "length",
    "freshness",
    "dense_rank",
    "bm25_rank",
)
