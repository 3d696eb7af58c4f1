"""Variants, routings with all their changes, and the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from anabranch_store import UtcDateTime, outbox_table

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "variants",
        sa.Column("number", serial, primary_key=True, autoincrement=True),
        sa.Column("variant_id", sa.String(16), nullable=False, unique=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "routings",
        sa.Column("scope", sa.String(200), primary_key=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "routing_changes",
        sa.Column("scope", sa.String(200), sa.ForeignKey("routings.scope"), primary_key=True),
        sa.Column("revision", sa.BigInteger(), primary_key=True),
        sa.Column("weights", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
    )
    outbox_table(sa.MetaData()).create(op.get_bind())


def downgrade() -> None:
    """Drops them."""
    for table in ("outbox", "routing_changes", "routings", "variants"):
        op.drop_table(table)
