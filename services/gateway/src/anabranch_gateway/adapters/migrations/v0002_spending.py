"""What each process may spend, and which bounds were told of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes both tables."""
    op.create_table(
        "spending_grants",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("seconds", sa.Integer(), primary_key=True),
        sa.Column("start", sa.BigInteger(), primary_key=True),
        sa.Column("ends", sa.BigInteger(), nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_spending_grants_ends", "spending_grants", ["ends"])
    op.create_table(
        "spending_told",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("seconds", sa.Integer(), primary_key=True),
        sa.Column("start", sa.BigInteger(), primary_key=True),
        sa.Column("hard", sa.Integer(), primary_key=True),
        sa.Column("bound", sa.BigInteger(), primary_key=True),
        sa.Column("ends", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_spending_told_ends", "spending_told", ["ends"])


def downgrade() -> None:
    """Drops both."""
    op.drop_table("spending_told")
    op.drop_table("spending_grants")
