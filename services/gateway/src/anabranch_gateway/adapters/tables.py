"""The gateway's tables."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Index, LargeBinary, MetaData, String, Table, Text

from anabranch_store import UtcDateTime

METADATA: Final = MetaData()

KEYS: Final = Table(
    "keys",
    METADATA,
    Column("key_id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("labels", Text(), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("note", Text(), nullable=False),
    Column("created_at", UtcDateTime(), nullable=False),
    Column("revoked_at", UtcDateTime(), nullable=True),
    Index("keys_by_tenant", "tenant", "created_at"),
)

SESSIONS: Final = Table(
    "sessions",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("session", LargeBinary(32), primary_key=True),
    Column("turns", Text(), nullable=False),
    Column("changed_at", UtcDateTime(), nullable=False),
    Index("sessions_by_age", "changed_at"),
    Index("sessions_by_tenant_and_age", "tenant", "changed_at"),
)
