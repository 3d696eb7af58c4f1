"""How fast the ledger adds calls of models, what they take on disk, and how long sums take: JSON on stdout.

`--calls N` over thirty days, from a thousand people of ten tenants, on SQLite in a folder of its own.
"""  # noqa: INP001 - a program

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path

from anabranch_registry.adapters.costs import SqlCostBook
from anabranch_registry.bootstrap import database_of
from anabranch_registry.domain.spending import By, Usage

BATCH = 500


def calls(count: int, now: datetime) -> Iterator[Usage]:
    """As a platform would meter them: one after the other, from people who come back."""
    drawn = random.Random(7)  # noqa: S311  the same calls each time
    for number in range(count):
        person = drawn.randrange(1_000)
        yield Usage(
            usage_id=str(uuid.UUID(int=drawn.getrandbits(128))),
            tenant=f"tenant-{person % 10}",
            key_id=f"k-{person % 10:012}",
            user_id=f"person-{person}",
            variant_id=f"v-{drawn.randrange(2):012}",
            purpose="answer",
            backend="openai",
            model="gpt-4o-mini",
            prompt_tokens=1_200,
            completion_tokens=80,
            cost_micros=228,
            metered_at=now - timedelta(days=30) * (1 - number / count),
        )


async def measure(count: int) -> dict[str, float]:
    """Add them, in batches, then all of them again; then ask."""
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "registry.db"
        database = database_of(f"sqlite:///{file}")
        await database.migrate()
        book = SqlCostBook(database)
        added, everything = 0, list(calls(count, now))
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            for start in range(0, count, BATCH):
                added += await book.add(everything[start : start + BATCH])
            seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
        costs = await book.sums([By.TENANT, By.DAY], since=now - timedelta(days=31), until=now, tenant="", most=1_000)
        asked = time.perf_counter() - began
        await database.close()
        size = sum(each.stat().st_size for each in Path(folder).iterdir())  # noqa: ASYNC240  nobody waits
    if added != count or costs.total.calls != count:
        raise SystemExit(f"{added} added, {costs.total.calls} counted of {count}")
    return {
        "calls": count,
        "added_per_s": round(count / seconds[0]),
        "replayed_per_s": round(count / seconds[1]),
        "bytes_per_call": round(size / count, 1),
        "sums_by_tenant_and_day_ms": round(1_000 * asked, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--data", help="not needed: the calls are made up")
    options = parser.parse_args()
    with redirect_stdout(sys.stderr):  # the log
        found = asyncio.run(measure(options.calls))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
