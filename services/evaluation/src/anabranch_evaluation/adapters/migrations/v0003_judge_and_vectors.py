"""Answers that wait for the judge, its verdicts, vectors of sentences; and what scored a run's answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from anabranch_store import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "waiting",
        sa.Column("number", serial, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("answer_id", sa.String(128), nullable=False),
        sa.Column("message", sa.LargeBinary(), nullable=False),
        sa.Column("material", sa.LargeBinary(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("free_from", UtcDateTime(), nullable=False),
        sa.UniqueConstraint("tenant", "answer_id"),
    )
    op.create_table(
        "verdicts",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("judged_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "vectors",
        sa.Column("version", sa.String(128), primary_key=True),
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("kept_at", UtcDateTime(), nullable=False),
    )
    op.add_column("runs", sa.Column("scorer", sa.String(160), nullable=False, server_default="gr-1"))


def downgrade() -> None:
    """Drops them."""
    op.drop_column("runs", "scorer")
    for table in ("vectors", "verdicts", "waiting"):
        op.drop_table(table)
