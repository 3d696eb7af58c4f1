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
from anabranch_retrieval.domain.fusion import Scored, fuse
from anabranch_retrieval.domain.reindexing import Reindex, ReindexState
from anabranch_retrieval.domain.results import (
    Hit,
    Passage,
    Question,
    Search,
    SearchSettings,
    Sentence,
    passage_of,
)

__all__ = [
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
    "Scored",
    "Search",
    "SearchSettings",
    "Sentence",
    "fuse",
    "passage_of",
    "without_near_duplicates",
]
