"""The index on Weaviate 1.39 or newer."""

from anabranch_retrieval.adapters.weaviate.connection import Address, Timeouts, Weaviate
from anabranch_retrieval.adapters.weaviate.index import WeaviateIndex

__all__ = ["Address", "Timeouts", "Weaviate", "WeaviateIndex"]
