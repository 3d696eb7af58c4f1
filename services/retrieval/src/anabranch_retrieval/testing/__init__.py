"""Public test doubles, makers of changes, and the use cases wired for tests."""

from anabranch_retrieval.testing.doubles import (
    FeatureReranker,
    HashEmbedder,
    HeldRerankers,
    MemoryIndex,
    chunk_of,
    document_of,
    entry_of,
    model,
    part_of,
    unit,
)
from anabranch_retrieval.testing.world import World

__all__ = [
    "FeatureReranker",
    "HashEmbedder",
    "HeldRerankers",
    "MemoryIndex",
    "World",
    "chunk_of",
    "document_of",
    "entry_of",
    "model",
    "part_of",
    "unit",
]
