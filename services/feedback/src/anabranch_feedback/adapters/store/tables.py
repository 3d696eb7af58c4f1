"""The tables as queries see them; migrations make them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, SmallInteger, String, Table
from sqlalchemy import Text as LongText

from anabranch_store import UtcDateTime

__all__ = ["ANSWERS", "ANSWER_DOCUMENTS", "EVENTS", "FEEDBACK", "METADATA", "REVIEWS"]

METADATA: Final = MetaData()

ANSWERS: Final = Table(
    "answers",
    METADATA,
    # The id first: an answer is also looked for without its tenant, to tell another tenant's from nobody's.
    Column("answer_id", String(128), primary_key=True),
    Column("tenant", String(64), primary_key=True),
    Column("corpus", String(128), nullable=False),
    Column("user_id", LongText(), nullable=False),
    Column("variant_id", String(128), nullable=False),
    Column("served_at", UtcDateTime(), nullable=False),
    Column("has_content", Boolean(), nullable=False),
    Column("record", LargeBinary(), nullable=False),
    Column("cause", LargeBinary(), nullable=False),
    Index("answers_by_time", "tenant", "served_at"),
    Index("answers_by_user", "tenant", "user_id"),
)
"""One row an answer, never changed but to forget who asked; `record` and `cause` are compressed messages."""

ANSWER_DOCUMENTS: Final = Table(
    "answer_documents",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("corpus", String(128), primary_key=True),
    Column("document_id", String(512), primary_key=True),
    Column("answer_id", String(128), primary_key=True),
    Column("cited", Boolean(), nullable=False),
    Index("answer_documents_by_answer", "answer_id"),
)
"""What answers were drawn from."""

FEEDBACK: Final = Table(
    "feedback",
    METADATA,
    Column("feedback_id", String(36), primary_key=True),
    Column("revision", BigInteger(), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("corpus", String(128), nullable=False),
    Column("answer_id", String(128), nullable=False),
    Column("other_answer_id", String(128), nullable=False),
    Column("user_id", String(128), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("verdict", SmallInteger(), nullable=False),
    Column("content", LargeBinary(), nullable=False),
    Column("given_at", UtcDateTime(), nullable=False),
    Column("joined_at", UtcDateTime(), nullable=True),
    Column("waiting_since", UtcDateTime(), nullable=True),
    Column("channel", SmallInteger(), nullable=False),
    Column("event_key", String(36), nullable=False),
    Column("event_id", String(200), nullable=False),
    Column("told_by_event", Boolean(), nullable=False),
    Column("withdrawn", Boolean(), nullable=False),
    Index("feedback_by_answer", "answer_id", "tenant", "verdict"),
    Index("feedback_by_user", "tenant", "user_id"),
    Index("feedback_by_joining", "tenant", "joined_at", "feedback_id"),
)
"""One row a feedback: its present revision. A withdrawn one keeps its number and nothing of the person."""

Index(
    "feedback_waiting",
    FEEDBACK.c.waiting_since,
    sqlite_where=FEEDBACK.c.waiting_since.is_not(None),
    postgresql_where=FEEDBACK.c.waiting_since.is_not(None),
)

EVENTS: Final = Table(
    "events",
    METADATA,
    Column("event_key", String(36), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("feedback_id", String(36), nullable=False),
    Column("refusal", Integer(), nullable=True),
    Column("reason", LongText(), nullable=False),
    Column("taken_at", UtcDateTime(), nullable=False),
    Index("events_by_age", "taken_at"),
)
"""One row an event that was taken: the inbox, with what came of it."""

Index(
    "events_refused",
    EVENTS.c.tenant,
    EVENTS.c.taken_at,
    sqlite_where=EVENTS.c.refusal.is_not(None),
    postgresql_where=EVENTS.c.refusal.is_not(None),
)

REVIEWS: Final = Table(
    "reviews",
    METADATA,
    Column("review_id", String(36), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("corpus", String(128), nullable=False),
    Column("answer_id", String(128), nullable=False),
    Column("sampled_by", String(32), nullable=False),
    Column("queued_at", UtcDateTime(), nullable=False),
    Index("reviews_by_time", "tenant", "queued_at"),
)
"""Answers that were sampled for raters."""
