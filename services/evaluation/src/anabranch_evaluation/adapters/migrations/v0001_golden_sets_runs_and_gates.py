"""Golden sets, runs, gates, and the outbox."""

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
        "golden_sets",
        sa.Column("number", serial, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("version", sa.String(16), nullable=False),
        sa.Column("corpus", sa.String(128), nullable=False),
        sa.Column("questions", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("put_at", UtcDateTime(), nullable=False),
    )
    op.create_index("golden_sets_by_name", "golden_sets", ["tenant", "name", "number"])
    op.create_table(
        "runs",
        sa.Column("number", serial, primary_key=True, autoincrement=True),
        sa.Column("run_id", sa.String(16), nullable=False, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("dataset", sa.String(128), nullable=False),
        sa.Column("dataset_version", sa.String(16), nullable=False),
        sa.Column("variant_id", sa.String(64), nullable=False),
        sa.Column("corpus", sa.String(128), nullable=False),
        sa.Column("answers", sa.Boolean(), nullable=False),
        sa.Column("index_generation", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("scores", sa.LargeBinary(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
    )
    op.create_index("runs_by_content", "runs", ["tenant", "dataset_version", "variant_id"])
    op.create_table(
        "gates",
        sa.Column("gate_id", sa.String(16), primary_key=True),
        sa.Column("candidate_id", sa.String(64), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("decided_at", UtcDateTime(), nullable=False),
    )
    outbox_table(sa.MetaData()).create(op.get_bind())


def downgrade() -> None:
    """Drops them."""
    for table in ("outbox", "gates", "runs", "golden_sets"):
        op.drop_table(table)
