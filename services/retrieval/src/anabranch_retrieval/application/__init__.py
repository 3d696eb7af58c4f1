"""Use cases and the ports they need."""

from anabranch_retrieval.application.indexing import IndexDocuments
from anabranch_retrieval.application.models import CheckModels, Readiness
from anabranch_retrieval.application.ports import Catalogue, Embedder, Rerankers, Shown, Staged, VectorIndex, Written
from anabranch_retrieval.application.ranking import Ranked, Ranking
from anabranch_retrieval.application.reindexing import Reindexing, ReindexWorker
from anabranch_retrieval.application.removing import RemovalWorker
from anabranch_retrieval.application.searching import Answer, Retrieve
from anabranch_retrieval.application.warming import WarmUp

__all__ = [
    "Answer",
    "Catalogue",
    "CheckModels",
    "Embedder",
    "IndexDocuments",
    "Ranked",
    "Ranking",
    "Readiness",
    "ReindexWorker",
    "Reindexing",
    "RemovalWorker",
    "Rerankers",
    "Retrieve",
    "Shown",
    "Staged",
    "VectorIndex",
    "WarmUp",
    "Written",
]
