"""Feedback, runs, data sets and what they hold, the inbox and the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from anabranch_store import UtcDateTime, inbox_table, outbox_table

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_AUTOMATIC = sa.text("finished_at IS NULL AND \"trigger\" <> 'by_hand'")


def upgrade() -> None:
    """Makes the tables."""
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "feedback",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("feedback_id", sa.String(64), primary_key=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("corpus", sa.String(128), nullable=False),
        sa.Column("answer_id", sa.String(128), nullable=False),
        sa.Column("usable", sa.Boolean(), nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("withdrawn", sa.Boolean(), nullable=False),
        sa.Column("denied", sa.Boolean(), nullable=False),
        sa.Column("positive", sa.Integer(), nullable=False),
        sa.Column("negative", sa.Integer(), nullable=False),
        sa.Column("given_at", UtcDateTime(), nullable=False),
        sa.Column("judgments", sa.Text(), nullable=False),
    )
    op.create_index("feedback_fresh", "feedback", ["tenant", "corpus", "counted"])
    op.create_index("feedback_by_age", "feedback", ["tenant", "corpus", "given_at"])
    op.create_table(
        "runs",
        sa.Column("number", serial, primary_key=True, autoincrement=True),
        sa.Column("run_id", sa.String(16), nullable=False, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("corpus", sa.String(128), nullable=False),
        sa.Column("recipe", sa.String(16), nullable=False),
        sa.Column("trigger", sa.String(16), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("reverse_labels", sa.Boolean(), nullable=False),
        sa.Column("withheld", sa.Boolean(), nullable=False),
        sa.Column("gold", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("dataset_version", sa.String(16), nullable=False),
        sa.Column("model_version", sa.String(16), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("queued_at", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
    )
    op.create_index("runs_by_corpus", "runs", ["tenant", "corpus", "number"])
    op.create_table(
        "datasets",
        sa.Column("dataset_version", sa.String(16), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("corpus", sa.String(128), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("first_at", UtcDateTime(), nullable=False),
        sa.Column("last_at", UtcDateTime(), nullable=False),
        sa.Column("datasheet", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "dataset_uses",
        sa.Column("dataset_version", sa.String(16), primary_key=True),
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("name", sa.String(512), primary_key=True),
    )
    op.create_index("dataset_uses_by_name", "dataset_uses", ["kind", "name"])
    op.create_index(
        "runs_one_automatic",
        "runs",
        ["tenant", "corpus"],
        unique=True,
        sqlite_where=_AUTOMATIC,
        postgresql_where=_AUTOMATIC,
    )
    inbox_table(sa.MetaData()).create(op.get_bind())
    outbox_table(sa.MetaData()).create(op.get_bind())


def downgrade() -> None:
    """Drops them."""
    for table in ("outbox", "inbox", "dataset_uses", "datasets", "runs", "feedback"):
        op.drop_table(table)
