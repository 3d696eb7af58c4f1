"""Rerankers from the artifact store."""

from anabranch_retrieval.adapters.rerankers.loading import load
from anabranch_retrieval.adapters.rerankers.shelf import ArtifactRerankers

__all__ = ["ArtifactRerankers", "load"]
