"""The tables as queries see them; migrations make them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, Text

from anabranch_store import UtcDateTime

__all__ = ["ROUTINGS", "ROUTING_CHANGES", "VARIANTS"]

_METADATA: Final = MetaData()

VARIANTS: Final = Table(
    "variants",
    _METADATA,
    Column("number", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("variant_id", String(16), nullable=False, unique=True),
    Column("description", Text(), nullable=False),
    Column("bundle", Text(), nullable=False),
    Column("author", Text(), nullable=False),
    Column("reason", Text(), nullable=False),
    Column("created_at", UtcDateTime(), nullable=False),
)
"""One row a variant, never changed; `bundle` is its canonical form."""

ROUTINGS: Final = Table(
    "routings",
    _METADATA,
    Column("scope", String(200), primary_key=True),
    Column("revision", BigInteger(), nullable=False),
)
"""One row a scope: the revision that holds. Whoever changes a scope changes, and so locks, its row first."""

ROUTING_CHANGES: Final = Table(
    "routing_changes",
    _METADATA,
    Column("scope", String(200), primary_key=True),
    Column("revision", BigInteger(), primary_key=True),
    Column("weights", Text(), nullable=False),
    Column("author", Text(), nullable=False),
    Column("reason", Text(), nullable=False),
    Column("changed_at", UtcDateTime(), nullable=False),
)
"""One row a change, kept for ever; `weights` is JSON: variant id -> weight."""
