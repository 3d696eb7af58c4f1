"""Readings of answers, for drift."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "readings",
        sa.Column("number", serial, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("corpus", sa.String(128), nullable=False),
        sa.Column("answer_id", sa.String(128), nullable=False),
        sa.Column("reading", sa.Text(), nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.UniqueConstraint("tenant", "answer_id"),
    )
    op.create_index("readings_by_corpus", "readings", ["tenant", "corpus", "counted", "number"])


def downgrade() -> None:
    """Drops it."""
    op.drop_table("readings")
