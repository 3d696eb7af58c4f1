"""The tables as queries see them; migrations make them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, MetaData, String, Table, Text

from anabranch_store import UtcDateTime

__all__ = [
    "CHANGES",
    "ENTRIES",
    "LINKS",
    "ROUTINGS",
    "ROUTING_CHANGES",
    "USAGE_CALLS",
    "USAGE_GROUPS",
    "USAGE_HOURS",
    "VARIANTS",
]

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
"""One row a model, data set, gate, candidate, experiment, policy, label, prompt, quota or price as it is.

`body` is JSON.
"""

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

USAGE_CALLS: Final = Table(
    "usage_calls",
    _METADATA,
    Column("call", LargeBinary(16), primary_key=True),
    Column("day", Integer(), nullable=False),
)
"""One row a call that was added, so that none is added twice: a digest of its name, and the day it was metered."""

USAGE_GROUPS: Final = Table(
    "usage_groups",
    _METADATA,
    Column("group_id", _SERIAL, primary_key=True, autoincrement=True),
    Column("digest", LargeBinary(16), nullable=False, unique=True),
    Column("tenant", Text(), nullable=False),
    Column("key_id", Text(), nullable=False),
    Column("user_id", Text(), nullable=False),
    Column("variant_id", Text(), nullable=False),
    Column("purpose", Text(), nullable=False),
    Column("backend", Text(), nullable=False),
    Column("model", Text(), nullable=False),
)
"""One row for all that costs are told apart by, so that sums need not repeat the words; `digest` is of all of them."""

USAGE_HOURS: Final = Table(
    "usage_hours",
    _METADATA,
    Column("hour", Integer(), primary_key=True, autoincrement=False),
    Column("group_id", BigInteger(), primary_key=True, autoincrement=False),
    Column("calls", BigInteger(), nullable=False),
    Column("unpriced_calls", BigInteger(), nullable=False),
    Column("prompt_tokens", BigInteger(), nullable=False),
    Column("completion_tokens", BigInteger(), nullable=False),
    Column("cost_micros", BigInteger(), nullable=False),
)
"""One row an hour (since 1970, UTC) and group, kept for ever."""
