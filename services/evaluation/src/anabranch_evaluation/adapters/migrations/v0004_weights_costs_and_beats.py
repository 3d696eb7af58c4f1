"""Weights that dealt people, least sample-ratio p-values, costs, blocked answers, beats of runs, times to drop by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BY_TIME = (("exposures", "served_at"), ("opinions", "served_at"), ("scores", "scored_at"))


def upgrade() -> None:
    """Makes them."""
    op.create_table(
        "arm_weights",
        sa.Column("experiment_id", sa.String(64), primary_key=True),
        sa.Column("routing_revision", sa.BigInteger(), primary_key=True),
        sa.Column("weights", sa.Text(), nullable=False),
    )
    op.create_table(
        "sample_ratios",
        sa.Column("experiment_id", sa.String(64), primary_key=True),
        sa.Column("phase_revision", sa.BigInteger(), primary_key=True),
        sa.Column("p_value", sa.Float(), nullable=False),
    )
    op.add_column("exposures", sa.Column("blocked", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("exposures", sa.Column("tokens", sa.Float(), nullable=True))
    op.add_column("exposures", sa.Column("microdollars", sa.Float(), nullable=True))
    op.add_column("runs", sa.Column("beats", sa.BigInteger(), nullable=False, server_default="0"))
    for table, column in _BY_TIME:
        op.create_index(f"{table}_by_time", table, [column])


def downgrade() -> None:
    """Drops them."""
    for table, _ in _BY_TIME:
        op.drop_index(f"{table}_by_time", table)
    op.drop_column("runs", "beats")
    for column in ("microdollars", "tokens", "blocked"):
        op.drop_column("exposures", column)
    op.drop_table("sample_ratios")
    op.drop_table("arm_weights")
