"""Exposures, opinions, looks, decisions and live scores."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from anabranch_store import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "exposures",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("answer_id", sa.String(128), primary_key=True),
        sa.Column("experiment_id", sa.String(64), nullable=False),
        sa.Column("routing_revision", sa.BigInteger(), nullable=False),
        sa.Column("arm", sa.String(32), nullable=False),
        sa.Column("unit", sa.String(40), nullable=False),
        sa.Column("served_at", UtcDateTime(), nullable=False),
        sa.Column("latency", sa.Float(), nullable=False),
        sa.Column("abstained", sa.Boolean(), nullable=False),
        sa.Column("groundedness", sa.Float(), nullable=True),
        sa.Column("citation_precision", sa.Float(), nullable=True),
    )
    op.create_index("exposures_by_experiment", "exposures", ["experiment_id", "routing_revision"])
    op.create_table(
        "opinions",
        sa.Column("feedback_id", sa.String(64), primary_key=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("answer_id", sa.String(128), nullable=False),
        sa.Column("asker", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("experiment_id", sa.String(64), nullable=False),
        sa.Column("served_at", UtcDateTime(), nullable=True),
    )
    op.create_index("opinions_by_answer", "opinions", ["tenant", "answer_id"])
    op.create_index("opinions_by_experiment", "opinions", ["experiment_id"])
    op.create_index("opinions_by_asker", "opinions", ["asker"])
    op.create_table(
        "looks",
        sa.Column("number", serial, primary_key=True, autoincrement=True),
        sa.Column("experiment_id", sa.String(64), nullable=False),
        sa.Column("phase_revision", sa.BigInteger(), nullable=False),
        sa.Column("fraction", sa.Float(), nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("number", serial, primary_key=True, autoincrement=True),
        sa.Column("experiment_id", sa.String(64), nullable=False),
        sa.Column("phase_revision", sa.BigInteger(), nullable=False),
        sa.Column("discriminator", sa.String(64), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("decided_at", UtcDateTime(), nullable=False),
        sa.UniqueConstraint("experiment_id", "phase_revision", "discriminator"),
    )
    op.create_table(
        "scores",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("answer_id", sa.String(128), primary_key=True),
        sa.Column("message", sa.LargeBinary(), nullable=False),
        sa.Column("scored_at", UtcDateTime(), nullable=False),
    )


def downgrade() -> None:
    """Drops them."""
    for table in ("scores", "decisions", "looks", "opinions", "exposures"):
        op.drop_table(table)
