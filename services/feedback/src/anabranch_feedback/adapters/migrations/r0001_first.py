"""Answers, feedback, events and reviews, and the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from anabranch_store import UtcDateTime, outbox_table

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "answers",
        sa.Column("answer_id", sa.String(128), primary_key=True),
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("corpus", sa.String(128), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("variant_id", sa.String(128), nullable=False),
        sa.Column("served_at", UtcDateTime(), nullable=False),
        sa.Column("has_content", sa.Boolean(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.Column("cause", sa.LargeBinary(), nullable=False),
    )
    op.create_index("answers_by_time", "answers", ["tenant", "served_at"])
    op.create_index("answers_by_user", "answers", ["tenant", "user_id"])
    op.create_table(
        "answer_documents",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("corpus", sa.String(128), primary_key=True),
        sa.Column("document_id", sa.String(512), primary_key=True),
        sa.Column("answer_id", sa.String(128), primary_key=True),
        sa.Column("cited", sa.Boolean(), nullable=False),
    )
    op.create_index("answer_documents_by_answer", "answer_documents", ["answer_id"])
    _feedback()
    op.create_table(
        "events",
        sa.Column("event_key", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("feedback_id", sa.String(36), nullable=False),
        sa.Column("refusal", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("taken_at", UtcDateTime(), nullable=False),
    )
    op.create_index("events_by_age", "events", ["taken_at"])
    _partial("events_refused", "events", ["tenant", "taken_at"], "refusal IS NOT NULL")
    op.create_table(
        "reviews",
        sa.Column("review_id", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("corpus", sa.String(128), nullable=False),
        sa.Column("answer_id", sa.String(128), nullable=False),
        sa.Column("sampled_by", sa.String(32), nullable=False),
        sa.Column("queued_at", UtcDateTime(), nullable=False),
    )
    op.create_index("reviews_by_time", "reviews", ["tenant", "queued_at"])
    outbox_table(sa.MetaData()).create(op.get_bind())


def _feedback() -> None:
    op.create_table(
        "feedback",
        sa.Column("feedback_id", sa.String(36), primary_key=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("corpus", sa.String(128), nullable=False),
        sa.Column("answer_id", sa.String(128), nullable=False),
        sa.Column("other_answer_id", sa.String(128), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("given_at", UtcDateTime(), nullable=False),
        sa.Column("joined_at", UtcDateTime(), nullable=True),
        sa.Column("waiting_since", UtcDateTime(), nullable=True),
        sa.Column("channel", sa.SmallInteger(), nullable=False),
        sa.Column("event_key", sa.String(36), nullable=False),
        sa.Column("event_id", sa.String(200), nullable=False),
        sa.Column("told_by_event", sa.Boolean(), nullable=False),
        sa.Column("withdrawn", sa.Boolean(), nullable=False),
    )
    op.create_index("feedback_by_answer", "feedback", ["answer_id"])
    op.create_index("feedback_by_user", "feedback", ["tenant", "user_id"])
    op.create_index("feedback_by_joining", "feedback", ["tenant", "joined_at", "feedback_id"])
    _partial("feedback_waiting", "feedback", ["waiting_since"], "waiting_since IS NOT NULL")


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def downgrade() -> None:
    """Drops them."""
    for table in ("outbox", "reviews", "events", "feedback", "answer_documents", "answers"):
        op.drop_table(table)
