"""Models, data sets, candidates, experiments, policies, labels; audit, lineage, and the inbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from anabranch_store import UtcDateTime, inbox_table

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables; what was changed before is taken into the audit."""
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "entries",
        sa.Column("number", serial, primary_key=True, autoincrement=True),
        sa.Column("noun", sa.String(16), nullable=False),
        sa.Column("key", sa.String(300), nullable=False),
        sa.Column("listed_under", sa.String(200), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.UniqueConstraint("noun", "key", name="entries_by_key"),
    )
    op.create_index("entries_by_scope", "entries", ["noun", "listed_under", "number"])
    op.create_index("entries_live", "entries", ["noun", "live"])
    op.create_table(
        "changes",
        sa.Column("number", serial, primary_key=True, autoincrement=True),
        sa.Column("subject_kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(300), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("scope", sa.String(200), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
    )
    op.create_index("changes_by_scope", "changes", ["scope", "number"])
    op.create_index("changes_by_subject", "changes", ["subject", "number"])
    op.create_table(
        "links",
        sa.Column("source", sa.String(300), primary_key=True),
        sa.Column("target", sa.String(300), primary_key=True),
        sa.Column("how", sa.String(32), primary_key=True),
    )
    op.create_index("links_by_target", "links", ["target"])
    inbox_table(sa.MetaData()).create(op.get_bind())
    op.execute(
        "insert into changes (subject_kind, subject, what, scope, author, reason, at) "
        "select 'variant', variant_id, 'created', '', author, reason, created_at from variants order by number"
    )
    op.execute(
        "insert into changes (subject_kind, subject, what, scope, author, reason, at) "
        "select 'routing', scope, 'revision ' || revision || ': ' || weights, scope, author, reason, changed_at "
        "from routing_changes order by changed_at, revision"
    )


def downgrade() -> None:
    """Drops them."""
    for table in ("inbox", "links", "changes", "entries"):
        op.drop_table(table)
