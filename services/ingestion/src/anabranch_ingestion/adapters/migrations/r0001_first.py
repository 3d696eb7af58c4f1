"""Documents, versions, statuses, parked changes, inbox and outbox."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

from anabranch_store import UtcDateTime, inbox_table, outbox_table

revision = "r0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables as they were then: the code's own may have moved on."""
    metadata = MetaData()
    key, event = String(1_024), String(200)
    serial = BigInteger().with_variant(Integer(), "sqlite")
    inbox_table(metadata)
    outbox_table(metadata)
    Table(
        "documents",
        metadata,
        Column("record_key", key, primary_key=True),
        Column("seen", BigInteger(), nullable=False),
        Column("version", BigInteger(), nullable=False),
        Column("live", BigInteger(), nullable=False),
        Column("state", String(16), nullable=True),
        Column("deleted", Boolean(), nullable=False),
        Column("event_id", event, nullable=False),
        Column("request_hash", String(64), nullable=False),
        Column("chunk_count", Integer(), nullable=False),
        Column("sent_at", UtcDateTime(), nullable=True),
        Column("facts", Text(), nullable=False),
        Column("last", Text(), nullable=True),
    )
    Table(
        "versions",
        metadata,
        Column("record_key", key, primary_key=True),
        Column("version", BigInteger(), primary_key=True),
        Column("event_id", event, nullable=False),
        Column("state", String(16), nullable=False),
        Column("deleted", Boolean(), nullable=False),
        Column("chunk_count", Integer(), nullable=False),
        Column("sent_at", UtcDateTime(), nullable=False),
        Index("versions_by_state", "state", "sent_at"),
    )
    Table(
        "statuses",
        metadata,
        Column("seq", serial, primary_key=True, autoincrement=True),
        Column("record_key", key, nullable=False),
        Column("status", Text(), nullable=False),
        Column("at", UtcDateTime(), nullable=False),
        Index("statuses_by_document", "record_key", "seq"),
        Index("statuses_by_age", "at"),
    )
    Table(
        "parked",
        metadata,
        Column("event_id", event, primary_key=True),
        Column("record_key", key, nullable=False),
        Column("version", BigInteger(), nullable=False),
        Column("change", LargeBinary(), nullable=False),
        Column("trace", Text(), nullable=False),
        Column("attempts", Integer(), nullable=False),
        Column("owner", String(64), nullable=False),
        Column("lease_until", UtcDateTime(), nullable=False),
    )
    metadata.create_all(op.get_bind())
