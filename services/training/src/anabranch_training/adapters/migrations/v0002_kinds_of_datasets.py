"""Data sets of words beside those for ranking."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """All that are there are for ranking."""
    op.add_column("datasets", sa.Column("kind", sa.String(16), nullable=False, server_default="ranking"))


def downgrade() -> None:
    """Forgets the kinds."""
    op.drop_column("datasets", "kind")
