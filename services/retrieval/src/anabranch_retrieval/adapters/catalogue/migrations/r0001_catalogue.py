"""Corpora, documents, chunks, removals, reindexes; inbox and outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from anabranch_store import UtcDateTime, inbox_table, outbox_table

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _key(*, primary: bool) -> list[sa.Column[str]]:
    return [
        sa.Column("tenant", sa.String(64), primary_key=primary, nullable=False),
        sa.Column("corpus", sa.String(128), primary_key=primary, nullable=False),
    ]


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "corpora",
        *_key(primary=True),
        sa.Column("live_model", sa.Text(), nullable=False),
        sa.Column("building_model", sa.Text()),
        sa.Column("previous_model", sa.Text()),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("document_count", sa.BigInteger(), nullable=False),
        sa.Column("chunk_count", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.Column("pointed", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "documents",
        *_key(primary=True),
        sa.Column("document_id", sa.String(512), primary_key=True),
        sa.Column("newest", sa.BigInteger(), nullable=False),
        sa.Column("live", sa.BigInteger()),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("chunk_count", sa.Integer(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("dirty", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "parts",
        *_key(primary=True),
        sa.Column("document_id", sa.String(512), primary_key=True),
        sa.Column("version", sa.BigInteger(), primary_key=True),
        sa.Column("part", sa.Integer(), primary_key=True),
    )
    op.create_table(
        "chunks",
        *_key(primary=True),
        sa.Column("chunk_id", sa.String(36), primary_key=True),
        sa.Column("document_id", sa.String(512), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
    )
    op.create_index("chunks_by_document", "chunks", ["tenant", "corpus", "document_id", "version"])
    op.create_table(
        "indexed_chunks",
        *_key(primary=True),
        sa.Column("embedding_version", sa.String(200), primary_key=True),
        sa.Column("chunk_id", sa.String(36), primary_key=True),
        sa.Column("sentence_vectors", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "removals",
        sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
        *_key(primary=False),
        sa.Column("document_id", sa.String(512), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=False),
        sa.Column("event_id", sa.String(200)),
        sa.Column("caused_by", sa.String(200), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("embedding_version", sa.String(200), nullable=False),
    )
    op.create_index("removals_by_time", "removals", ["due_at"])
    op.create_table(
        "reindexes",
        sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
        *_key(primary=False),
        sa.Column("from_version", sa.String(200), nullable=False),
        sa.Column("to_version", sa.String(200), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("chunks_done", sa.BigInteger(), nullable=False),
        sa.Column("chunks_total", sa.BigInteger(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime()),
    )
    op.create_index("reindexes_by_corpus", "reindexes", ["tenant", "corpus", "id"])
    op.create_index("reindexes_by_state", "reindexes", ["state"])
    op.create_table(
        "retired",
        *_key(primary=True),
        sa.Column("embedding_version", sa.String(200), primary_key=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=False),
    )
    metadata = sa.MetaData()
    inbox_table(metadata)
    outbox_table(metadata)
    metadata.create_all(op.get_bind())


def downgrade() -> None:
    """Takes everything out."""
    tables = ("outbox", "inbox", "retired", "reindexes", "removals", "indexed_chunks", "chunks", "parts", "documents")
    for table in (*tables, "corpora"):
        op.drop_table(table)
