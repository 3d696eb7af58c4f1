"""The tables every service that owns a database has besides its own: inbox and outbox."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import BigInteger, Column, DateTime, Dialect, Index, Integer, LargeBinary, MetaData, String, Table, Text
from sqlalchemy.types import TypeDecorator

__all__ = ["UtcDateTime", "inbox_table", "outbox_table"]

# SQLite counts up by itself only for a primary key that is exactly INTEGER.
_SERIAL = BigInteger().with_variant(Integer(), "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, in UTC on both databases. Raises ValueError for a naive one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; SQLite drops the zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  SQLAlchemy's signature
        """Aware again."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def inbox_table(metadata: MetaData) -> Table:
    """One row an event that a consumer group has taken effect of."""
    return Table(
        "inbox",
        metadata,
        Column("consumer_group", String(200), primary_key=True),
        Column("event_id", String(200), primary_key=True),
        Column("claimed_at", UtcDateTime(), nullable=False),
        Index("inbox_by_age", "claimed_at"),
    )


def outbox_table(metadata: MetaData) -> Table:
    """One row an event that is decided and not yet acknowledged by the broker.

    `refused` is why the broker will never take it; such a row stays until a person removes it.
    """
    return Table(
        "outbox",
        metadata,
        Column("id", _SERIAL, primary_key=True, autoincrement=True),
        Column("topic", String(249), nullable=False),
        Column("record_key", LargeBinary(), nullable=False),
        Column("value", LargeBinary(), nullable=False),
        Column("headers", Text(), nullable=False),
        Column("written_at", UtcDateTime(), nullable=False),
        Column("refused", Text(), nullable=True),
    )
