"""Tables of the catalogue; the migrations make them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from anabranch_store import UtcDateTime

METADATA: Final = MetaData()
_SERIAL = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up only an INTEGER


def _corpus_key(*, primary: bool) -> list[Column[str]]:
    return [
        Column("tenant", String(64), primary_key=primary, nullable=False),
        Column("corpus", String(128), primary_key=primary, nullable=False),
    ]


# The models are JSON of domain.Model. pointed: the index's public name of the corpus stands for the live edition.
CORPORA: Final = Table(
    "corpora",
    METADATA,
    *_corpus_key(primary=True),
    Column("live_model", Text(), nullable=False),
    Column("building_model", Text()),
    Column("previous_model", Text()),
    Column("generation", BigInteger(), nullable=False),
    Column("document_count", BigInteger(), nullable=False),
    Column("chunk_count", BigInteger(), nullable=False),
    Column("changed_at", UtcDateTime(), nullable=False),
    Column("pointed", Boolean(), nullable=False),
)

# newest: the highest version ever heard of. live: the version readers see. generation: that of its last change.
# dirty: there may be chunks of versions before `newest`.
DOCUMENTS: Final = Table(
    "documents",
    METADATA,
    *_corpus_key(primary=True),
    Column("document_id", String(512), primary_key=True),
    Column("newest", BigInteger(), nullable=False),
    Column("live", BigInteger()),
    Column("deleted", Boolean(), nullable=False),
    Column("chunk_count", Integer(), nullable=False),
    Column("generation", BigInteger(), nullable=False),
    Column("dirty", Boolean(), nullable=False),
)

# Parts of a version that are in the index while others are not.
PARTS: Final = Table(
    "parts",
    METADATA,
    *_corpus_key(primary=True),
    Column("document_id", String(512), primary_key=True),
    Column("version", BigInteger(), primary_key=True),
    Column("part", Integer(), primary_key=True),
)

# What a reader is shown. A row is written before its chunk goes into an index and removed after it left it, so
# the index never holds what is not listed here.
CHUNKS: Final = Table(
    "chunks",
    METADATA,
    *_corpus_key(primary=True),
    Column("chunk_id", String(36), primary_key=True),
    Column("document_id", String(512), nullable=False),
    Column("version", BigInteger(), nullable=False),
    Column("payload", LargeBinary(), nullable=False),
    Index("chunks_by_document", "tenant", "corpus", "document_id", "version"),
)

# Which edition holds which chunk.
INDEXED: Final = Table(
    "indexed_chunks",
    METADATA,
    *_corpus_key(primary=True),
    Column("embedding_version", String(200), primary_key=True),
    Column("chunk_id", String(36), primary_key=True),
    Column("sentence_vectors", LargeBinary(), nullable=False),
)

# Documents with chunks to be taken out. With an event id: a deletion, announced once that is done.
REMOVALS: Final = Table(
    "removals",
    METADATA,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    *_corpus_key(primary=False),
    Column("document_id", String(512), nullable=False),
    Column("due_at", UtcDateTime(), nullable=False),
    Column("event_id", String(200)),
    Column("caused_by", String(200), nullable=False),
    Column("version", BigInteger(), nullable=False),
    Column("generation", BigInteger(), nullable=False),
    Column("embedding_version", String(200), nullable=False),
    Index("removals_by_time", "due_at"),
)

REINDEXES: Final = Table(
    "reindexes",
    METADATA,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    *_corpus_key(primary=False),
    Column("from_version", String(200), nullable=False),
    Column("to_version", String(200), nullable=False),
    Column("state", String(20), nullable=False),
    Column("chunks_done", BigInteger(), nullable=False),
    Column("chunks_total", BigInteger(), nullable=False),
    Column("problem", Text(), nullable=False),
    Column("started_at", UtcDateTime(), nullable=False),
    Column("finished_at", UtcDateTime()),
    Index("reindexes_by_corpus", "tenant", "corpus", "id"),
    Index("reindexes_by_state", "state"),
)

# Editions given up, to be dropped from the index.
RETIRED: Final = Table(
    "retired",
    METADATA,
    *_corpus_key(primary=True),
    Column("embedding_version", String(200), primary_key=True),
    Column("model", Text(), nullable=False),
    Column("due_at", UtcDateTime(), nullable=False),
)
