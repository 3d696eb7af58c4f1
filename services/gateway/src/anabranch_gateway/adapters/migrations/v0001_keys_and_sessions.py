"""Keys and sessions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from anabranch_store import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes both tables."""
    op.create_table(
        "keys",
        sa.Column("key_id", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
    )
    op.create_index("keys_by_tenant", "keys", ["tenant", "created_at"])
    op.create_table(
        "sessions",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("session", sa.LargeBinary(32), primary_key=True),
        sa.Column("turns", sa.Text(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
    )
    op.create_index("sessions_by_age", "sessions", ["changed_at"])
    op.create_index("sessions_by_tenant_and_age", "sessions", ["tenant", "changed_at"])


def downgrade() -> None:
    """Drops both."""
    op.drop_table("sessions")
    op.drop_table("keys")
