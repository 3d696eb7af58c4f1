"""What each feedback says of its answer, so that answers over which people disagree are found by an index alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column. Stars are in messages: ratings from before count as undecided."""
    op.add_column("feedback", sa.Column("verdict", sa.SmallInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE feedback SET verdict = 1 WHERE kind = 'thumb-up'")
    op.execute("UPDATE feedback SET verdict = -1 WHERE kind IN ('thumb-down', 'correction')")
    op.drop_index("feedback_by_answer", "feedback")
    op.create_index("feedback_by_answer", "feedback", ["answer_id", "tenant", "verdict"])


def downgrade() -> None:
    """Drops it."""
    op.drop_index("feedback_by_answer", "feedback")
    op.create_index("feedback_by_answer", "feedback", ["answer_id"])
    op.drop_column("feedback", "verdict")
