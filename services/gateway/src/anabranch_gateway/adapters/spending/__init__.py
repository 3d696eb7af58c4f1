"""Quotas: who keeps the accounts, and who hears of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from anabranch_bus import Bus
from anabranch_gateway.adapters.spending.alone import AloneLedger
from anabranch_gateway.adapters.spending.grants import SqlGrants
from anabranch_gateway.adapters.spending.reports import SpendingReports
from anabranch_gateway.adapters.spending.shared import RedisLedger
from anabranch_gateway.application.spending import OnFailure, Purse
from anabranch_gateway.domain.spending import Quotas
from anabranch_store import Database

__all__ = ["AloneLedger", "RedisLedger", "Spending", "SpendingReports", "SqlGrants", "build"]

# A grant waits for a commit, and a database on a slow disk takes its time.
ALONE_PATIENCE: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """A purse and what keeps it going."""

    purse: Purse
    quotas: Quotas
    ledger: RedisLedger | AloneLedger
    reports: SpendingReports

    async def run(self) -> None:
        """Until it is cancelled: a background task of the service."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.purse.run())
            group.create_task(self.reports.run())

    async def flush(self, limit: timedelta) -> None:
        """What is under way is settled and told; a step of a drain."""
        try:
            async with asyncio.timeout(limit.total_seconds() / 2):
                await self.purse.flush()
        except TimeoutError:
            pass  # it will be counted as spent
        await self.reports.flush(limit / 2)

    async def close(self) -> None:
        """Gives back what was not used; before the database is closed."""
        await self.ledger.close()


def build(
    *,
    database: Database,
    bus: Bus,
    redis: str = "",
    redis_password_file: Path | None = None,
    on_failure: OnFailure = OnFailure.AUTO,
    patience: timedelta = timedelta(seconds=1),
    lease: timedelta = timedelta(seconds=30),
) -> Spending:
    """Accounts in Redis where `redis` is its url, else in this process and the database. Opens nothing."""
    quotas, reports = Quotas(), SpendingReports(bus)
    ledger: RedisLedger | AloneLedger
    if redis:
        password = redis_password_file.read_text(encoding="utf-8").strip() if redis_password_file else None
        ledger = RedisLedger(redis, password=password, lease=lease, timeout=patience)
    else:
        ledger = AloneLedger(SqlGrants(database), lease=lease)
        patience = max(patience, ALONE_PATIENCE)
    purse = Purse(quotas=quotas, ledger=ledger, reports=reports, on_failure=on_failure, patience=patience, lease=lease)
    return Spending(purse=purse, quotas=quotas, ledger=ledger, reports=reports)
