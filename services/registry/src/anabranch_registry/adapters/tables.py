"""The tables as queries see them; migrations make them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, String, Table, Text

from anabranch_store import UtcDateTime

__all__ = ["CHANGES", "ENTRIES", "LINKS", "ROUTINGS", "ROUTING_CHANGES", "VARIANTS"]

_METADATA: Final = MetaData()
_SERIAL: Final = BigInteger().with_variant(Integer(), "sqlite")

VARIANTS: Final = Table(
    "variants",
    _METADATA,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),
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
"""One row a change, kept for ever.

`weights` is JSON: a list of variant id, weight, experiment id and arm; before experiments, variant id -> weight.
"""

ENTRIES: Final = Table(
    "entries",
    _METADATA,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),
    Column("noun", String(16), nullable=False),
    Column("key", String(300), nullable=False),
    Column("listed_under", String(200), nullable=False),
    Column("live", Boolean(), nullable=False),
    Column("body", Text(), nullable=False),
)
"""One row a model, data set, gate, candidate, experiment, policy or label as it is; `body` is JSON."""

CHANGES: Final = Table(
    "changes",
    _METADATA,
    Column("number", _SERIAL, primary_key=True, autoincrement=True),
    Column("subject_kind", String(16), nullable=False),
    Column("subject", String(300), nullable=False),
    Column("what", Text(), nullable=False),
    Column("scope", String(200), nullable=False),
    Column("author", Text(), nullable=False),
    Column("reason", Text(), nullable=False),
    Column("at", UtcDateTime(), nullable=False),
)
"""The audit: one row a change of anything, never changed."""

LINKS: Final = Table(
    "links",
    _METADATA,
    Column("source", String(300), primary_key=True),
    Column("target", String(300), primary_key=True),
    Column("how", String(32), primary_key=True),
)
"""What led to what."""
