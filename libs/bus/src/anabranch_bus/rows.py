"""Applying the entries of a compacted topic to whoever keeps the table."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from anabranch_bus.codec import read
from anabranch_bus.policy import Backoff
from anabranch_bus.records import Raw, Unreadable
from anabranch_bus.subscription import Table
from anabranch_faults import Transient
from anabranch_observability import get_logger
from anabranch_observability.names import bus as names

__all__ = ["apply"]

log = get_logger()


async def apply(
    table: Table,
    raw: Raw,
    *,
    sleep: Callable[[float], Awaitable[Any]],
    rng: random.Random,
) -> None:
    """Give one entry to the table; one that cannot be read or applied is logged and passed over."""
    entry = read(table.topic, raw)
    if isinstance(entry, Unreadable) and raw.value is not None:
        log.error(names.Log.TABLE_ENTRY_SKIPPED, topic=raw.topic, offset=raw.offset, reason=entry.problem)
        return None
    value = None if isinstance(entry, Unreadable) else entry.message
    tries = 0
    while True:
        try:
            return await table.handler(entry.key, value)
        except Transient:
            wait = Backoff().wait(tries, rng=rng)
            await sleep(wait.total_seconds())
            tries += 1
        except Exception as error:  # noqa: BLE001  one bad entry must not keep the others from being read
            reason = f"{type(error).__name__}: {error}"
            log.error(names.Log.TABLE_ENTRY_SKIPPED, topic=raw.topic, offset=raw.offset, reason=reason)  # noqa: TRY400  the reason says it; the entry is at fault, not a stack
            return None
