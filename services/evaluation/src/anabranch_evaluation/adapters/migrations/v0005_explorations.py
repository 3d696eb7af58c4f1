"""Answers of cascades whose model was chosen at random."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from anabranch_store import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes them."""
    op.create_table(
        "explorations",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("answer_id", sa.String(128), primary_key=True),
        sa.Column("corpus", sa.String(128), nullable=False),
        sa.Column("variant_id", sa.String(64), nullable=False),
        sa.Column("served_at", UtcDateTime(), nullable=False),
        sa.Column("difficulty", sa.Float(), nullable=False),
        sa.Column("draft_support", sa.Float(), nullable=False),
        sa.Column("strong", sa.Boolean(), nullable=False),
        sa.Column("tokens", sa.Float(), nullable=False),
        sa.Column("microdollars", sa.Float(), nullable=True),
    )
    op.create_index("explorations_by_time", "explorations", ["served_at"])


def downgrade() -> None:
    """Drops them."""
    op.drop_table("explorations")
