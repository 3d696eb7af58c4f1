"""SQLAlchemy engines, migrations, inbox and outbox. See README.md."""

from __future__ import annotations

from anabranch_store.database import Database
from anabranch_store.inbox import Inbox
from anabranch_store.migration import SchemaAhead
from anabranch_store.outbox import Encoded, Outbox, OutboxRelay, Stored
from anabranch_store.tables import UtcDateTime, inbox_table, outbox_table

__all__ = [
    "Database",
    "Encoded",
    "Inbox",
    "Outbox",
    "OutboxRelay",
    "SchemaAhead",
    "Stored",
    "UtcDateTime",
    "inbox_table",
    "outbox_table",
]
