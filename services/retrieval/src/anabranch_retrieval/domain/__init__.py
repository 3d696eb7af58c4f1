"""What an index of documents means: names, chunks, versions, search results. No transport, no storage."""

from anabranch_retrieval.domain.corpora import Announcement, Corpus, Removal
from anabranch_retrieval.domain.documents import (
    MAX_VERSION,
    Change,
    Chunk,
    CorpusKey,
    Deletion,
    DocumentKey,
    Edition,
    Entry,
    Model,
    Part,
)
from anabranch_retrieval.domain.duplicates import without_near_duplicates
from anabranch_retrieval.domain.features import (
    CANDIDATES,
    FEATURE_SET,
    FEATURES,
    Terms,
    Words,
    features_of,
    words_of,
)
from anabranch_retrieval.domain.fusion import Scored, fuse
from anabranch_retrieval.domain.ranking import Reranker, order
from anabranch_retrieval.domain.reindexing import Reindex, ReindexState
from anabranch_retrieval.domain.results import (
    Hit,
    Passage,
    Question,
    Search,
    SearchSettings,
    Sentence,
    quantised,
    sentences_of,
)

__all__ = [
    "CANDIDATES",
    "FEATURES",
    "FEATURE_SET",
    "MAX_VERSION",
    "Announcement",
    "Change",
    "Chunk",
    "Corpus",
    "CorpusKey",
    "Deletion",
    "DocumentKey",
    "Edition",
    "Entry",
    "Hit",
    "Model",
    "Part",
    "Passage",
    "Question",
    "Reindex",
    "ReindexState",
    "Removal",
    "Reranker",
    "Scored",
    "Search",
    "SearchSettings",
    "Sentence",
    "Terms",
    "Words",
    "features_of",
    "fuse",
    "order",
    "quantised",
    "sentences_of",
    "without_near_duplicates",
    "words_of",
]
