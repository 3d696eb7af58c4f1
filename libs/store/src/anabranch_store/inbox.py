"""Effects once: an event's effects and the row that says so are one transaction."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import MetaData, delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from anabranch_store.tables import inbox_table

__all__ = ["Inbox"]

_TABLE: Final = inbox_table(MetaData())
# SQLite takes 32,766 variables a statement; three a row.
_ROWS = 1_000


class Inbox:
    """Which events a consumer group has already taken effect of. The service's migrations create the table."""

    @staticmethod
    async def claim(tx: AsyncSession, group: str, event_ids: Iterable[str]) -> set[str]:
        """Take these events for this transaction; gives those nobody took before.

        A concurrent transaction with the same event waits for this one's end, then finds it taken, or takes it.
        """
        wanted = sorted(set(event_ids))  # in one order, so that two batches cannot wait for each other
        insert: Any = postgresql.insert if tx.get_bind().dialect.name == "postgresql" else sqlite.insert
        now = datetime.now(UTC)
        fresh: set[str] = set()
        for start in range(0, len(wanted), _ROWS):
            rows = [
                {"consumer_group": group, "event_id": event_id, "claimed_at": now}
                for event_id in wanted[start : start + _ROWS]
            ]
            statement = insert(_TABLE).values(rows).on_conflict_do_nothing().returning(_TABLE.c.event_id)
            fresh.update((await tx.execute(statement)).scalars())
        return fresh

    @staticmethod
    async def forget(tx: AsyncSession, *, older_than: timedelta) -> int:
        """Remove rows older than any redelivery can be (the topics' retention); gives how many."""
        statement = delete(_TABLE).where(_TABLE.c.claimed_at < datetime.now(UTC) - older_than)
        result: Any = await tx.execute(statement)
        return int(result.rowcount)
